"""Annotation files: which videos there are, what their labels mean, how they are split."""
