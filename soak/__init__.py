"""Load and faults against real processes: what `docs/reliability.md` says is provoked and checked here."""
