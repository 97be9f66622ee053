"""What commands share: arguments for others, and how errors end."""

import functools
import sys
from collections.abc import Callable, Sequence

from svfap.engine.runtime.errors import explain
from svfap.engine.runtime.stopping import STOPPED_STATUS
from svfap.terminal import as_program


def split_arguments(arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those after `--`, which are for the command it runs.

    Args:
        arguments: without the program's name; None: those of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def tells_user(*more: type[Exception]) -> Callable:
    """Decorate a command: errors that are for its user become a line and exit status 1.

    Args:
        more: errors that are for the user wherever they come from; others keep their traceback
            unless `engine.runtime.errors.explain` has words for them.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def guarded(*args, **options) -> int:
            as_program()
            try:
                return main(*args, **options)
            except KeyboardInterrupt:
                return STOPPED_STATUS
            except Exception as error:
                text = explain(error) or (isinstance(error, more) and str(error))
                if not text:
                    raise
                print(f"error: {text}", file=sys.stderr)
                return 1

        return guarded

    return decorate
