"""Datasets of clips: which frames of which video, in which order, for training and evaluation."""
