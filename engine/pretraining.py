"""Pre-training: `run_pretrain.py` from its flags to checkpoints and pictures."""

import argparse
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from torch import nn
from torch.utils.data import Dataset

from datasets.clips import training as clips
from datasets.clips.lengths import typical_rate
from datasets.clips.loader import Loader, Reading
from datasets.labels.annotations import Annotations, read_annotations
from datasets.video.store import stores_of
from engine import build
from engine.loop import Training, train
from engine.runtime import distributed, plan, rundir
from engine.runtime.distributed import Workers
from engine.runtime.levers import Levers, choose_levers, set_up_levers
from engine.runtime.log import EpochLog, set_up_logging
from engine.runtime.merging import merge_batches
from engine.runtime.optim import create_optimizer, parameter_settings
from engine.runtime.parallel import check_sharding, distribute
from engine.runtime.precision import choose_precision, set_up_device
from engine.runtime.schedules import highest_weight_decay, peak_rates
from engine.runtime.step import Step, StepFunction

logger = logging.getLogger(__name__)


class Pretext(StepFunction, Protocol):
    """What an objective brings; built from (flags, workers), which checks the flags.

    Attributes:
        model: on the CPU, with random weights.
        samples_per_video: how many of the samples that make up a batch come from one video.
        views: clips per sample.
    """

    model: nn.Module
    samples_per_video: int
    views: int

    def choose_rows(self, annotations: Annotations) -> Annotations:
        """The videos that can be used."""

    def dataset(self, annotations: Annotations, window: tuple | None) -> Dataset:
        """Training items of these videos, indexed by `SampleKey`."""

    def cost(self) -> plan.Cost:
        """What one clip costs."""

    def plan_rows(self) -> dict[str, str]:
        """Lines of the plan."""

    def draw(
        self, run: Training, annotations: Annotations, window: tuple | None, output_dir: Path
    ) -> None:
        """Pictures at the end, on the main process."""


def create_pretext(flags: argparse.Namespace, workers: Workers) -> Pretext:
    """The pretext of `--objective`.

    Raises:
        ValueError: flags that cannot work, each with the remedy.
    """
    if flags.objective == "contrastive":
        from engine.pretext.contrastive import ContrastiveLearning  # slow, not always needed

        return ContrastiveLearning(flags, workers)
    from engine.pretext.masked import MaskedAutoencoding

    return MaskedAutoencoding(flags, workers)


def pretrain(flags: argparse.Namespace) -> None:
    """Pre-train as the flags say; resumes what it finds in `--output_dir`.

    Raises:
        ValueError: flags or files that cannot work, each with the remedy.
        StoppedBySignalError: interrupted and saved.
    """
    workers = distributed.start(flags.device)
    set_up_logging(workers.is_main)
    set_up_device(workers.device)
    build.require(flags, "data_path", *(["probe_path"] if flags.probe_every else []))
    pretext = create_pretext(flags, workers)
    model = pretext.model
    resume = rundir.find_checkpoint(flags)
    probing = _create_probe(flags, workers, model.config)
    annotations = pretext.choose_rows(
        read_annotations(
            flags.data_path,
            task="pretrain",
            data_root=flags.data_root,
            check_paths=flags.check_paths,
        )
    )
    window = _face_window(flags, model.img_size)
    precision = choose_precision(flags.amp, workers.device, width=model.embed_dim)
    check_sharding(flags, workers, precision)
    if flags.objective == "mae":  # elsewhere a batch's clips are compared with each other
        shards = workers.world_size if flags.shard else 1
        merge_batches(flags, pretext.cost(), precision, workers.device, shards=shards)
    batch = build.global_batch(flags, workers.world_size)
    steps = build.steps_per_epoch(len(annotations) * pretext.samples_per_video, batch)
    levers, compiling = _levers(flags, pretext, workers, steps)
    rows = _plan(flags, pretext, precision, annotations, window, batch, steps, workers)
    rows |= {"compiled": compiling}
    logger.info("plan\n%s", plan.describe(rows))
    if flags.dry_run:
        return
    facts = {"model": model.config, "global_batch": batch, "face_window": window}
    output_dir = rundir.open_run(flags, workers, facts | {"stores": stores_of(annotations.paths)})
    build.place(model, workers.device)
    run = _training(
        flags, workers, pretext, annotations, window, precision, levers, steps, output_dir
    )
    if resume:
        run.resume_from(resume)
    run.parallel.compile(levers)
    log = EpochLog(
        output_dir if workers.is_main else None, flags.log_dir if workers.is_main else None
    )

    def after_epoch(epoch: int, loader: Loader) -> dict:
        if not read_after(epoch):
            return {}
        return probing(loader, lambda: run.parallel.whole(model).state_dict())

    def read_after(epoch: int) -> list[Reading]:
        return probing.readings(epoch) if probing else []

    try:
        train(run, log, after_epoch, read_after)
    finally:
        log.close()
    _finish(flags, run, pretext, annotations, window, output_dir)


def _create_probe(flags, workers: Workers, model_config: dict) -> Callable | None:
    """What `--probe_every` asks for, if anything."""
    if not flags.probe_every:
        return None
    from engine.probe.probing import PretrainingProbe  # slow, not always needed

    return PretrainingProbe(flags, workers, model_config)


def _face_window(flags: argparse.Namespace, size: int) -> tuple[int, int, int, int] | None:
    """`--face_window`, or that of the data set for clips of this size; says which."""
    if flags.face_window:
        return tuple(flags.face_window)
    spec = build.resolve_spec(flags)
    window = spec.face_window(size) if spec else None
    if window is None:
        return None
    why = "--data_set" if flags.data_set else "the path of the CSV"
    logger.info(
        "frames are cut to the window of %s (top, left, height, width) = %s, chosen by %s; "
        "--face_window overrides it", spec.name, window, why,
    )  # fmt: skip
    return window


def _levers(flags, pretext: Pretext, workers: Workers, steps: int) -> tuple[Levers, str]:
    """How the run's steps are computed, and a line of the plan."""
    passes = min(flags.epochs * steps, flags.max_steps or math.inf) * flags.update_freq
    clips = flags.batch_size * build.clips_per_video(flags) * pretext.views
    levers, compiling = choose_levers(
        flags, workers.device, passes=passes,
        flop=lambda: plan.training_flop(pretext.cost(), clips),
    )  # fmt: skip
    if flags.objective == "contrastive" and workers.is_distributed:
        # its loss compares the views of all processes, which is not for a compiled function
        levers = replace(levers, whole_step=False)
    set_up_levers(levers, workers.device, pretext.model)
    return levers, compiling


def _training(
    flags, workers, pretext: Pretext, annotations, window, precision, levers, steps, output_dir
) -> Training:
    model = pretext.model
    sampler = clips.EpochSampler(
        num_samples=len(annotations),
        batch_size=flags.batch_size // pretext.samples_per_video,
        seed=flags.seed,
        rank=workers.rank,
        world_size=workers.world_size,
        accumulation=flags.update_freq,
    )
    step = Step(model, pretext, precision)
    parallel = distribute(step, flags, workers)
    settings = parameter_settings(model, weight_decay=highest_weight_decay(flags), layer_decay=None)

    return Training(
        flags=flags,
        workers=workers,
        model=model,
        parallel=parallel,
        optimizer=create_optimizer(model, flags, settings, joint=levers.joint_optimizer),
        dataset=pretext.dataset(annotations, window),
        sampler=sampler,
        loss_of=step.loss_of,
        num_videos=len(annotations),
        steps_per_epoch=steps,
        precision=precision,
        output_dir=output_dir,
        facts={
            "clips": {
                "sampling_rate": flags.sampling_rate, "face_window": window,
                "fps": typical_rate(annotations, backend=flags.reader) if workers.is_main else None,
            },
        },
    )  # fmt: skip


def _plan(flags, pretext: Pretext, precision, annotations, window, batch, steps, workers) -> dict:
    peak, final, _ = peak_rates(flags, batch)
    rows = plan.model_rows(
        pretext.model, pretext.cost(), flags, precision, batch, views=pretext.views,
        shards=workers.world_size if flags.shard else 1,
    )  # fmt: skip
    return (
        rows
        | pretext.plan_rows()
        | {
            "videos": f"{len(annotations)} in {flags.data_path}",
            "face window": build.window_text(window, annotations),
            "steps": f"{steps} per epoch, {flags.epochs} epochs"
            + (f", at most {flags.max_steps} in all" if flags.max_steps else ""),
            "learning rate": f"{peak:.3g} at its peak, {final:.3g} at the end",
            "device": f"{workers.world_size} x {workers.device}" + ", sharded" * flags.shard,
            "output": flags.output_dir or "none",
        }
    )


def _finish(flags, run: Training, pretext: Pretext, annotations, window, output_dir) -> None:
    """Draw the curves and what else was asked for."""
    run.model = run.parallel.whole(run.model)
    if not (output_dir and run.workers.is_main):
        return
    from engine.report.plots import plot_training  # slow, and not needed before

    plot_training(output_dir)
    pretext.draw(run, annotations, window, output_dir)
    if flags.report:
        from engine.report.page import write_report

        write_report(output_dir)
    logger.info("checkpoints, log and pictures are in %s", output_dir)
