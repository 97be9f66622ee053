"""Checks of arguments that many places have."""


def at_least(low: float, **values: float | None) -> None:
    """Raise a ValueError for the first of some named values that is below `low`; None is none."""
    for name, value in values.items():
        if value is not None and value < low:
            raise ValueError(f"{name} is {value}: it must be {low} or more")
