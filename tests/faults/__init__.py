"""Kills, damage and full disks at random; long: `pytest -m slow tests/faults`."""
