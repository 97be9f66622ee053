"""Files of weights: reading them, what model they are of, and putting them into one."""

from svfap.models.weights.loading import LoadReport, load_weights

__all__ = ["LoadReport", "load_weights"]
