"""Batches of loaders, for tests of what is in them."""

from svfap.datasets.loading.loader import Loader, Reading


def read_all(readings, **options):
    """The batches of several readings of one loader, a list for each."""
    with Loader(readings, **options) as loader:
        return [list(loader.read(reading)) for reading in readings]


def in_order(dataset, batch_size, **options):
    """All items of a dataset in batches."""
    return read_all([Reading.in_order(dataset, batch_size)], **options)[0]


def of_epoch(dataset, sampler, *position, **options):
    """The batches of a training epoch."""
    return read_all([Reading.of_epoch(dataset, sampler, *position)], **options)[0]
