"""`make demo`: a real Label Studio with example projects, which are connected to the backend."""
