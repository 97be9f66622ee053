"""Drawn faces: animated people whose expressions are known, in the layouts of real data sets."""
