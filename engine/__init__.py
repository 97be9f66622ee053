"""Training and evaluation: flags, the training loop, objectives, tasks, metrics, pictures."""

from svfap import short_name

short_name(__name__)
