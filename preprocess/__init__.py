"""Commands that turn official data set files into annotation CSVs, one module per data set."""
