"""Fine-tuning tasks: classification, regression, both."""
