"""What predictions are of: a class, classes of several heads, numbers, or a class and numbers."""
