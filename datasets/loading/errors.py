"""Errors of loaders; apart, as commands ask for them before anything large is imported."""


class LoaderError(RuntimeError):
    """Loader processes could not be started, or one of them has died."""
