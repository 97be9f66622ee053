"""Kills at random moments; minutes to an hour: `pytest -m slow tests/faults`."""
