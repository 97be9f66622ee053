"""Where a run's numbers go besides log.jsonl: TensorBoard, Weights & Biases, MLflow, Trackio."""

import hashlib
import importlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from svfap.datasets.files import CannotWriteError, writing
from svfap.extras import install

logger = logging.getLogger(__name__)

PROJECT = "svfap"


class TensorBoard:
    """Events, written as they come: no thread can die with a disk that is full.

    Raises:
        CannotWriteError: by every method.
    """

    def __init__(self, folder: Path, config: Mapping):
        """Begin a file of events in a folder, which is made if necessary."""
        from tensorboardX.event_file_writer import EventsWriter  # slow import, often unused

        self.folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.events = EventsWriter(str(folder / "events"))

    def write(self, values: Mapping[str, float], step: int, axis: str) -> None:
        """Add numbers; `axis` is what `step` counts."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with writing(self.folder):
            for name, value in values.items():
                summary = scalar(f"{axis}/{name}", value)
                self.events.write_event(Event(summary=summary, wall_time=time.time(), step=step))

    def flush(self) -> None:
        """Bring everything to the disk."""
        with writing(self.folder):
            self.events.flush()

    def close(self) -> None:
        """Flush and end."""
        with writing(self.folder):
            self.events.close()


class Wandb:
    """Weights & Biases; WANDB_MODE=offline keeps everything in the folder."""

    def __init__(self, folder: Path, config: Mapping):
        """Begin a run, or go on with that of the folder."""
        _be_brief(WANDB_INIT_TIMEOUT="15")
        # A run that is resumed goes on with the same curves, for which each axis has its own steps.
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self.run = importlib.import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=folder.resolve().name,
            id=identity, resume="allow", dir=str(folder), config=dict(config),
        )  # fmt: skip
        for axis in ("epoch", "step"):
            self.run.define_metric(f"{axis}/*", step_metric=f"{axis}/index")

    def write(self, values: Mapping[str, float], step: int, axis: str) -> None:
        """See `TensorBoard`."""
        self.run.log({f"{axis}/index": step, **_named(values, axis)})

    def close(self) -> None:
        """End the run."""
        self.run.finish()


class Mlflow:
    """MLflow; without MLFLOW_TRACKING_URI everything is kept in `mlruns` of the folder."""

    def __init__(self, folder: Path, config: Mapping):
        """Begin a run."""
        _be_brief(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1", MLFLOW_HTTP_REQUEST_TIMEOUT="10")
        self.mlflow = importlib.import_module("mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else a database is needed
            self.mlflow.set_tracking_uri((folder / "mlruns").resolve().as_uri())
        self.mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        self.mlflow.start_run(run_name=folder.resolve().name)
        self.mlflow.log_params(dict(config))

    def write(self, values: Mapping[str, float], step: int, axis: str) -> None:
        """See `TensorBoard`."""
        self.mlflow.log_metrics(_named(values, axis), step=step)

    def close(self) -> None:
        """End the run."""
        self.mlflow.end_run()


class Trackio:
    """Trackio, which keeps everything on this machine unless it is told of a Space."""

    def __init__(self, folder: Path, config: Mapping):
        """Begin a run."""
        name = folder.resolve().name
        self.run = importlib.import_module("trackio").init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=name, config=dict(config),
            resume="allow",
        )  # fmt: skip

    def write(self, values: Mapping[str, float], step: int, axis: str) -> None:
        """See `TensorBoard`."""
        self.run.log(_named(values, axis), step=step)

    def close(self) -> None:
        """End the run."""
        self.run.finish()


def _be_brief(**settings: str) -> None:
    """Let a library that finds no network say so in seconds, unless its user wants otherwise."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)


LOGGERS = {"tensorboard": [TensorBoard], "wandb": [Wandb], "mlflow": [Mlflow],
           "trackio": [Trackio], "none": []}  # fmt: skip


class Boards:
    """The boards of a run; one that fails is said so once and left alone, the run goes on."""

    def __init__(self, names: Sequence[str], folder: Path | None, config: Mapping):
        """Open them; without a folder none.

        Raises:
            ValueError: a library is not installed, or does not begin.
            CannotWriteError: TensorBoard's events cannot be written, also later.
        """
        self.boards = []
        for name in names if folder else ():
            try:
                self.boards += [kind(folder, config) for kind in LOGGERS[name]]
            except CannotWriteError:
                raise
            except ModuleNotFoundError as error:
                raise ValueError(
                    f"--logger {name}: {error.name} is not installed; {install(name)}"
                ) from error
            except Exception as error:  # of somebody else's service
                raise ValueError(f"--logger {name} cannot begin: {error}") from error

    def write(self, values: Mapping[str, object], step: int, axis: str) -> None:
        """Send those values that are numbers; `axis` is what `step` counts."""
        numbers = {key: own for key, own in values.items() if isinstance(own, (int, float))}
        self._all("write", numbers, step, axis)

    def flush(self) -> None:
        """Bring to the disk what libraries do not bring there themselves."""
        self._all("flush")

    def close(self) -> None:
        """End all."""
        self._all("close")

    def _all(self, method: str, *arguments) -> None:
        for board in list(self.boards):
            try:
                getattr(board, method, lambda: None)(*arguments)
            except Exception as error:  # of somebody else's service
                if isinstance(board, TensorBoard):
                    raise
                self.boards.remove(board)
                logger.warning("%s failed and gets no more numbers: %s",
                               type(board).__name__, error)  # fmt: skip


def _named(values: Mapping[str, float], axis: str) -> dict[str, float]:
    return {f"{axis}/{name}": float(value) for name, value in values.items()}
