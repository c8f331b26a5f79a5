"""Servers, stubs and data that tests, benchmarks and soak share. No test is here."""
