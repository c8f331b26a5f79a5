"""Benchmarks: they measure the figures of `docs/figures.md`."""
