"""What was trained, for others: weights, configuration, model card; a folder or on the Hub."""
