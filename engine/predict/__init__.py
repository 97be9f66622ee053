"""Answers of a fine-tuned model for any videos.

>>> from engine.predict import Predictor
"""

from importlib import import_module


def __getattr__(name: str):
    """What `engine.predict.predictor` offers, imported when asked for: it is slow to import."""
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(import_module("svfap.engine.predict.predictor"), name)
