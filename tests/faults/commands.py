"""The commands that are disturbed, each in a process of its own that has imported everything.

As a program: python -m tests.faults.commands NAME DATA OUT
"""

import io
import logging
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from svfap.engine import crossval
from svfap.engine.command import run_command
from svfap.engine.runtime import stopping
from svfap.preprocess import faces, pack
from svfap.preprocess.shared import common, face_jobs
from tests.face_drawings import BlobDetector, Scene, face_video
from tests.faults.same import BESIDE
from tests.tiny_data import FINETUNE_FLAGS, PRETRAIN_FLAGS, make_tiny_data

SEED = int(os.environ.get("FAULT_SEED", "0"))
OFTEN = ("--save_every_minutes", "0")
GOES_ON = 75
TOO_LONG_SECONDS = 600
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "engine.pretraining", "engine.finetuning"])


def make_data(folder: Path) -> Path:
    """Videos, lists, folds and drawn faces for all commands."""
    make_tiny_data(folder)
    rows = (folder / "pretrain.csv").read_text().splitlines(keepends=True)
    for number, test in enumerate((rows[:4], rows[4:8]), start=1):
        fold = folder / "folds" / f"split0{number}"
        fold.mkdir(parents=True)
        (fold / "test.csv").write_text("".join(test))
        (fold / "train.csv").write_text("".join(row for row in rows if row not in test))
    for number in range(4):
        places = {i: (100 + i, 90, 16 + number) for i in range(8)}
        face_video(folder / "faces" / f"{number}.mp4", Scene([places], 8))
    return folder


def arguments(name: str, data: Path, out: Path) -> list[str]:
    """Arguments of a command; it saves as often as it can."""
    to = ["--output_dir", str(out)]
    return {
        "pretraining": [*PRETRAIN_FLAGS, *OFTEN, *to, "--data_path", str(data / "pretrain.csv"),
                        "--save_ckpt_freq", "1", "--visualize", "1"],
        "finetuning": [*FINETUNE_FLAGS, *OFTEN, *to, "--data_path", str(data / "fold"),
                       "--save_feature", "--model_ema", "--val_metric", "uar"],
        "packing": [str(data / "fold"), *to, "--num_workers", "0", "--shard_gib", "1e-5"],
        "faces": [str(data / "faces"), *to, "--num_workers", "0", "--min_face", "0.15",
                  "--landmarks", "--size", "64"],
        "crossval": ["--data_path", str(data / "folds"), *to, "--", *FINETUNE_FLAGS, *OFTEN,
                     "--epochs", "1", "--warmup_epochs", "0"],
    }[name]  # fmt: skip


def run(name: str, argv: list[str]) -> None:
    """Do what `python ...` does with these arguments; ends with SystemExit."""
    if name in ("packing", "faces"):
        face_jobs.create_detector = faces.create_detector = BlobDetector
        module = {"packing": pack, "faces": faces}[name]
        common.run_command(lambda _: module.main(argv))
        sys.exit(0)
    stopping.listen()
    if name == "crossval":
        sys.exit(crossval.main(argv))
    run_command(name, argv)


def _in_process(name: str, argv: list[str], log: str, limit: int | None) -> None:
    """Body of a process: what is said goes to a file, which the limit does not concern."""
    os.setsid()
    said = io.StringIO() if limit else Path(log).open("w", buffering=1)  # noqa: SIM115
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    status = 0
    with redirect_stdout(said), redirect_stderr(said):
        try:
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            run(name, argv)
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
            status = 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    if limit:
        Path(log).write_text(said.getvalue())
    logging.shutdown()
    sys.exit(status)


class Running:
    """A command under way.

    Args:
        name: of `arguments`.
        data: of `make_data`.
        out: its output directory; what it says is beside it.
        limit: bytes that no file may exceed.
    """

    def __init__(self, name: str, data: Path, out: Path, *, limit: int | None = None):
        self.out, self.log = out, out.with_name(out.name + BESIDE)
        args = name, arguments(name, data, out), str(self.log), limit
        self.process = CONTEXT.Process(target=_in_process, args=args)
        self.begun = time.monotonic()
        self.process.start()

    def end(self) -> int:
        """Wait for its end; returns the status."""
        self.process.join(TOO_LONG_SECONDS)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"hangs:\n{self.said}")
        self.seconds = time.monotonic() - self.begun
        return self.process.exitcode

    def stop(self) -> None:
        """Ask it to stop, as a queue does."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and all it has begun at once, as a machine that goes down."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        for place in Path("/proc").glob("[0-9]*/cmdline"):  # folds, which are programs
            with suppress(OSError):
                if os.fsencode(self.out) + b"/" in place.read_bytes():
                    os.kill(int(place.parent.name), signal.SIGKILL)

    @property
    def said(self) -> str:
        """Everything it has said so far."""
        return self.log.read_text() if self.log.exists() else ""


if __name__ == "__main__":
    run(sys.argv[1], arguments(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
