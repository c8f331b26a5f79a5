"""From a task to a prediction: what shapes answers, what is asked, and the one door that pays."""
