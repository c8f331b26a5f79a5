"""Benchmarks: what the README's figures come from."""
