"""A real Label Studio with example projects that are connected to the backend: `make demo`."""
