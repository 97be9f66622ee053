"""Results of evaluations: predictions, metrics, intervals, tables, features."""
