"""Load and faults with real processes. They provoke and check what `docs/reliability.md` says."""
