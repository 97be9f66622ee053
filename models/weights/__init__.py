"""Files of weights: reading them, what model they are of, and putting them into one."""
