"""Measurements anyone can rerun; `python -m benchmarks.all` makes the whole table."""
