"""What the preparation commands share: checks, folds, journals, reading of official files."""
