"""What the `run_*.py` files do: parse flags, run, and end with a message and status users can use.

Exit status: 0 done, 1 an error, 2 wrong flags, 75 stopped by a signal after saving (start the
same command again to go on).
"""

import logging
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from svfap.engine.flags import config, parsing
from svfap.engine.flags.inputs import check_inputs
from svfap.engine.runtime.programs import tells_user
from svfap.engine.runtime.stopping import (
    GOES_ON,
    STOPPED_STATUS,
    StoppedBySignalError,
    leave_at_once,
)

logger = logging.getLogger(__name__)


def run_command(stage: str, argv: Sequence[str] | None = None) -> None:
    """Run pre-training or fine-tuning from the command line.

    Args:
        stage: "pretraining" or "finetuning".
    """
    parser = getattr(config, f"{stage}_parser")()
    try:
        flags = parsing.parse_flags(parser, argv)
        # where nobody said where to keep a training; `--output_dir ""` says not to
        kept = flags.output_dir or "output_dir" in flags.given
        if not (kept or flags.dry_run or getattr(flags, "eval", False)):
            # of several processes, that of the first counts (`engine.runtime.rundir.opened`)
            folder = Path("saved/runs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{stage}"
            given = sys.argv[1:] if argv is None else argv
            flags = parsing.parse_flags(parser, [*given, "--output_dir", str(folder)])
        check_inputs(flags, stage)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    status = _run(stage, flags)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        leave_at_once(status)
    sys.exit(status)


@tells_user()
def _run(stage: str, flags) -> int:
    # Imported late, so that --help and wrong flags answer at once.
    from svfap.engine.runtime import distributed

    try:
        if stage == "pretraining":
            from svfap.engine.pretraining import pretrain as run
        else:
            from svfap.engine.finetuning import finetune as run
        run(flags)
    except StoppedBySignalError as stopped:
        logger.warning("stopped by %s after saving; %s", stopped, GOES_ON)
        return STOPPED_STATUS
    finally:
        distributed.stop()
    return 0
