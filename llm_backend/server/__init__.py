"""HTTP: what Label Studio calls and what an operator opens. The only package with Flask in it."""
