"""Loading: the order of samples, and the processes that make batches of them."""
