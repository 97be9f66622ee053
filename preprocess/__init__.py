"""Commands that turn official data set files into annotation CSVs, one module per data set."""

from svfap import short_name

short_name(__name__)
