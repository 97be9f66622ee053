"""Putting a run together and carrying it out: what pre-training and fine-tuning do alike."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from svfap.datasets.clips.lengths import typical_rate
from svfap.datasets.clips.training import EpochSampler
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.video.store import stores_of
from svfap.engine import build
from svfap.engine.compute.levers import Levers, choose_levers, set_up_levers
from svfap.engine.compute.memory import expected_bytes, room_bytes
from svfap.engine.compute.optim import create_optimizer, parameter_settings
from svfap.engine.compute.parallel import distribute
from svfap.engine.compute.precision import Precision, set_up_device
from svfap.engine.compute.step import Step, StepFunction
from svfap.engine.flags.flag import Flags
from svfap.engine.flags.resolved import Resolved, as_facts, resolve
from svfap.engine.loop import Training, train
from svfap.engine.runtime import distributed, origin, plan, rundir
from svfap.engine.runtime.boards import Boards
from svfap.engine.runtime.distributed import Workers
from svfap.engine.runtime.log import EpochLog, set_up_logging

logger = logging.getLogger(__name__)

# Flags that ask for files at the end; asked for other ones, a finished run makes them.
OUTPUTS = ("report", "visualize", "save_feature", "feature_format")


def begin(device: str) -> Workers:
    """Processes, logging and device of a run."""
    workers = distributed.start(device)
    set_up_logging(workers.is_main)
    set_up_device(workers.device)
    return workers


@dataclass(kw_only=True)
class Assembly:
    """What is known of a run before it begins."""

    flags: Flags  # the run's flags
    workers: Workers
    model: nn.Module
    precision: Precision
    annotations: Annotations
    cost: plan.Cost
    window: tuple[int, int, int, int] | None  # part of each frame that is used
    sampling_rate: int  # distance of the frames of a clip
    samples_per_video: int = 1  # how many of the samples that make up a batch come from one video
    views: int = 1  # clips per sample
    whole_step: bool = True  # whether a step from pixels to loss may be compiled as one function
    merged: int = 1  # accumulated batches that are computed together
    settled: Mapping[str, object] = field(default_factory=dict)  # flags left open, which follow
    resume: Path | None  # checkpoint that the run goes on from
    known: dict = field(init=False)  # what decides the results, see `decided_by`
    resolved: Resolved = field(init=False)
    levers: Levers = field(init=False)
    compiling: str = field(init=False)  # likewise, in words

    def __post_init__(self) -> None:
        """Work out the numbers of the run, and choose how steps are computed."""
        flags, device = self.flags, self.workers.device
        self.resolved = resolve(
            flags,
            world_size=self.workers.world_size,
            num_samples=len(self.annotations) * self.samples_per_video,
            merged=self.merged,
            settled=self.settled,
        )
        self.levers, self.compiling = choose_levers(
            device, wanted=flags.compile, mode=flags.compile_mode, without=flags.without,
            shard=flags.shard, passes=self.resolved.total_steps * self.resolved.accumulation,
            flop=lambda: plan.training_flop(self.cost, self.clips),
        )  # fmt: skip
        if not self.whole_step:
            self.levers = replace(self.levers, whole_step=False)
        set_up_levers(self.levers, device, self.model)

    @property
    def clips(self) -> int:
        """Clips that a process computes at a time."""
        return self.resolved.batch_size * self.resolved.clips_per_sample * self.views

    def tell(
        self,
        rows: Mapping[str, object],
        function: StepFunction,
        shapes: Callable[[int], dict[str, object]],
    ) -> None:
        """Log the plan.

        Args:
            shapes: what that takes of a batch of so many clips (`step_memory`).
        """
        flags, workers, numbers = self.flags, self.workers, self.resolved
        decay = getattr(flags, "layer_decay", None)
        memory = None
        if flags.dry_run or workers.device.type == "cuda":  # it takes seconds
            memory = expected_bytes(
                function, self.model, shapes(self.clips), workers=workers,
                precision=self.precision, accumulates=numbers.accumulation > 1,
                averaged=getattr(flags, "model_ema", False), shard=flags.shard, levers=self.levers,
            )  # fmt: skip
        shown = plan.model_rows(
            self.model, self.cost, self.precision,
            sampling_rate=self.sampling_rate, global_batch=numbers.global_batch, clips=self.clips,
            clips_per_sample=numbers.clips_per_sample, views=self.views, memory=memory,
        )  # fmt: skip
        shown |= rows
        shown |= {
            "face window": build.window_text(self.window, self.annotations),
            "steps": f"{numbers.steps_per_epoch} per epoch, {flags.epochs} epochs"
            + (f", at most {flags.max_steps} in all" if flags.max_steps else ""),
            "learning rate": f"{numbers.peak_lr:.3g} at its peak, {numbers.final_lr:.3g} at the end"
            + (f", decay {decay} per layer" if decay is not None else ""),
            "device": f"{workers.world_size} x {workers.device}" + ", sharded" * flags.shard,
            "output": flags.output_dir or "none",
            "compiled": self.compiling,
        }
        logger.info("plan\n%s", plan.describe(shown))
        warn_of_memory(memory, workers.device)

    def decided_by(self, known: dict) -> None:
        """Note what decides the results (`engine.runtime.origin`); refuses to go on with others."""
        self.known, flags = known, self.flags
        named = {name: getattr(flags, name) for name in origin.NAMES if hasattr(flags, name)}
        rundir.refuse_other_run(flags.output_dir, known, self.resume, named)

    def is_finished(self, *files: str) -> bool:
        """Whether this run has been carried out before; see `rundir.is_finished`."""
        flags = self.flags
        if not (flags.output_dir and flags.auto_resume):
            return False
        wanted = (*files, *["report.html"] * flags.report)
        finished = rundir.is_finished(Path(flags.output_dir), self._end, wanted, self.resume)
        if finished:
            logger.info("%s is finished: left alone", flags.output_dir)
        return finished

    def note_finished(self, output_dir: Path) -> None:
        """Write down that everything has been done."""
        rundir.note_finished(output_dir, self._end)

    @property
    def _end(self) -> dict:
        """What a finished run has done and written."""
        outputs = {name: getattr(self.flags, name, None) for name in OUTPUTS}
        return {"steps": self.resolved.total_steps, "outputs": outputs}

    @contextmanager
    def opened(self, **facts: object) -> Iterator[Path | None]:
        """The run directory, for this process alone; its config.json gets `facts` of the stage."""
        own = {
            "model": self.model.config, "face_window": self.window,
            "stores": stores_of(self.annotations.paths), **as_facts(self.resolved), **facts,
        }  # fmt: skip
        config = {"flags": vars(self.flags), "resolved": own, "origin": self.known}
        output_dir = self.flags.output_dir
        with rundir.opened(output_dir, self.workers, config, self.resume) as folder:
            yield folder

    def training(
        self,
        function: StepFunction,
        dataset: Dataset,
        output_dir: Path | None,
        *,
        video_weights: np.ndarray | None = None,
        **facts: object,
    ) -> Training:
        """The run.

        Args:
            video_weights: how often videos are drawn; None: each once per epoch.
            facts: what checkpoints say besides.
        """
        flags, workers, numbers = self.flags, self.workers, self.resolved
        step = Step(self.model, function, self.precision)
        accumulates, averaged = numbers.accumulation > 1, getattr(flags, "model_ema", False)
        parallel = distribute(step, workers, shard=flags.shard, accumulates=accumulates)
        settings = parameter_settings(
            self.model, weight_decay=max(numbers.weight_decays),
            layer_decay=getattr(flags, "layer_decay", None),
        )  # fmt: skip
        optimizer = create_optimizer(
            self.model, settings, opt=flags.opt, lr=flags.lr, opt_eps=flags.opt_eps,
            opt_betas=flags.opt_betas, momentum=flags.momentum, joint=self.levers.joint_optimizer,
        )  # fmt: skip
        sampler = EpochSampler(
            num_samples=len(self.annotations), seed=flags.seed, rank=workers.rank,
            batch_size=numbers.batch_size // self.samples_per_video, weights=video_weights,
            world_size=workers.world_size, accumulation=numbers.accumulation,
        )  # fmt: skip
        clips = {"sampling_rate": self.sampling_rate, "face_window": self.window, "fps": None}
        if workers.is_main:
            clips["fps"] = typical_rate(
                self.annotations, sampling_rate=self.sampling_rate, backend=flags.reader
            )
        return Training(
            flags=flags, resolved=numbers, workers=workers, model=self.model, parallel=parallel,
            optimizer=optimizer, dataset=dataset, sampler=sampler, loss_of=step.loss_of,
            num_videos=len(self.annotations), precision=self.precision, output_dir=output_dir,
            average=parallel.create_average(flags.model_ema_decay) if averaged else None,
            facts={**facts, "clips": clips, "origin": self.known},
        )  # fmt: skip

    def carry_out(self, run: Training, after_epoch: Callable, read_after: Callable) -> None:
        """Train, from the checkpoint `resume` on if any; the rest as `train` has it."""
        run.begin(self.resume)
        run.parallel.compile(self.levers)
        flags, output_dir = self.flags, run.output_dir if self.workers.is_main else None
        folder = Path(flags.log_dir) if flags.log_dir and self.workers.is_main else output_dir
        boards = Boards(flags.logger, folder, vars(flags))
        try:
            train(run, EpochLog(output_dir, boards), after_epoch, read_after)
        finally:
            boards.close()


def warn_of_memory(expected: int | None, device: torch.device) -> None:
    """Say that a process will want more bytes than there are."""
    room = room_bytes(device)
    if expected and expected > room:
        logger.warning(
            "%s GiB is more memory than a process has here (%s GiB): take a smaller --batch_size "
            "with as much larger --update_freq, or --use_checkpoint",
            f"{expected / 2**30:,.1f}", f"{room / 2**30:,.1f}",
        )  # fmt: skip
