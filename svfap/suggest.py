"""Names that a misspelt one may stand for."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The name most like a wrong one, as the end of a sentence: ", did you mean THAT?", or "".

    Args:
        name: as somebody wrote it; capitals do not matter.
    """
    plain = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), plain, n=1)
    return f", did you mean {plain[near[0]]}?" if near else ""
