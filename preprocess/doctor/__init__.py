"""Data doctor: what is in annotation files and the videos behind them, and what is wrong."""
