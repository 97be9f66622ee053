"""Training and evaluation: flags, the training loop, objectives, tasks, metrics, pictures."""
