"""Benchmarks: `make bench`, or `python -m bench [pull start]`."""
