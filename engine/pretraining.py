"""Pre-training: `run_pretrain.py` from its flags to checkpoints and pictures."""

import logging
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module

from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.loading.loader import Loader, Reading
from svfap.engine import build
from svfap.engine.assembly import Assembly, begin
from svfap.engine.compute.memory import expected_bytes
from svfap.engine.compute.merging import batches_together
from svfap.engine.compute.parallel import check_sharding
from svfap.engine.compute.precision import Precision, choose_precision
from svfap.engine.flags.flag import Flags
from svfap.engine.flags.pretraining import OBJECTIVES
from svfap.engine.loop import Training
from svfap.engine.pretext.base import Pretext
from svfap.engine.runtime import origin, rundir
from svfap.engine.runtime.distributed import Workers

logger = logging.getLogger(__name__)


def create_pretext(flags: Flags, workers: Workers) -> Pretext:
    """The pretext of `--objective`, imported only now: not all are needed, and some are slow."""
    module, name = OBJECTIVES[flags.objective].split(":")
    return getattr(import_module(module), name)(flags, workers)


def pretrain(flags: Flags) -> None:
    """Pre-train as the flags say; resumes what it finds in `--output_dir`.

    Raises:
        StoppedBySignalError: interrupted and saved.
    """
    workers = begin(flags.device)
    flags.require("data_path", *(["probe_path"] if flags.probe_every else []))
    pretext = create_pretext(flags, workers)
    model = pretext.model
    resume = rundir.find_checkpoint(flags.output_dir, flags.resume, flags.auto_resume)
    probing = None
    if flags.probe_every:
        from svfap.engine.probe.probing import PretrainingProbe  # slow, not always needed

        probing = PretrainingProbe(flags, workers, model.config)
    annotations = read_annotations(
        flags.data_path, task="pretrain", data_root=flags.data_root, check_paths=flags.check_paths
    )
    annotations = pretext.choose_rows(annotations)
    window = _face_window(flags.face_window, flags.data_set, flags.data_path, model.img_size)
    precision = choose_precision(flags.amp, workers.device, width=model.embed_dim)
    if flags.shard:
        check_sharding(workers, precision, opt=flags.opt, amp=flags.amp)
    assembly = Assembly(
        flags=flags, workers=workers, model=model, precision=precision, annotations=annotations,
        cost=pretext.cost(), window=window, sampling_rate=flags.sampling_rate,
        samples_per_video=pretext.samples_per_video, views=pretext.views,
        # views of all processes are compared, which is not for a compiled function
        whole_step=not (pretext.compares and workers.is_distributed),
        merged=_batches_together(pretext, workers, precision), settled=pretext.settled,
        resume=resume,
    )  # fmt: skip
    assembly.decided_by(_origin(assembly, pretext, probing))
    if flags.start_from and not resume:
        pretext.take_weights(flags.start_from)
    rows = {**pretext.plan_rows(), "videos": f"{len(annotations)} in {flags.data_path}"}
    assembly.tell(rows, pretext, pretext.shapes)
    if flags.dry_run or assembly.is_finished():
        return
    with assembly.opened() as output_dir:
        build.place(model, workers.device)
        run = assembly.training(pretext, pretext.dataset(annotations, window), output_dir)
        _carry_out(assembly, pretext, run, probing)


def _batches_together(pretext: Pretext, workers: Workers, precision: Precision) -> int:
    """Accumulated batches that are computed together."""
    flags, model = pretext.flags, pretext.model
    if pretext.compares or origin.mixes_clips(model):
        return 1

    def bytes_for(num_batches: int) -> int:
        clips = num_batches * flags.batch_size * flags.num_samples
        return expected_bytes(
            pretext, model, pretext.shapes(clips), workers=workers, precision=precision,
            accumulates=True, shard=flags.shard,
        )  # fmt: skip

    return batches_together(
        flags.merge_batches, accumulation=flags.update_freq, drop_path=flags.drop_path,
        bytes_for=bytes_for, device=workers.device,
    )  # fmt: skip


def _carry_out(
    assembly: Assembly, pretext: Pretext, run: Training, probing: Callable | None
) -> None:
    """Train, draw, and write everything down."""
    keeps = run.output_dir and run.workers.is_main
    if keeps:
        pretext.write_chosen(run.output_dir)

    first_step = cache(partial(_first_step, run, pretext))  # first called where the run goes on

    def after_epoch(epoch: int, loader: Loader) -> dict:
        if reading := first_step().get(epoch):
            for number, batch in enumerate(loader.read(reading)):
                if not number:
                    pretext.look_at(batch)
        line = pretext.look(run, epoch)
        if probing and probing.readings(epoch):
            line |= probing(loader, lambda: run.parallel.whole(run.model).state_dict())
        return line

    def read_after(epoch: int) -> list[Reading]:
        looked_at = [reading for begun, reading in first_step().items() if begun == epoch]
        return looked_at + (probing.readings(epoch) if probing else [])

    assembly.carry_out(run, after_epoch, read_after)
    _finish(run, pretext, assembly.annotations, assembly.window)
    if keeps:
        assembly.note_finished(run.output_dir)


def _first_step(run: Training, pretext: Pretext) -> dict[int, Reading]:
    """What a run began with, after the epoch it goes on in, for looks at the same clips."""
    begun, position = run.flags.start_epoch, run.position
    if not pretext.looks_at_first or (position.epoch, position.step) == (begun, 0):
        return {}
    return {position.epoch: Reading.of_epoch(run.dataset, run.sampler, begun, 0, 1)}


def _origin(assembly: Assembly, pretext: Pretext, probing: Callable | None) -> dict:
    """What decides the results."""
    flags = assembly.flags
    data = {"train": origin.describe_data(assembly.annotations)}
    if probing:
        for name, part in zip(("train", "test"), probing.parts):
            data[f"the probe's {name}"] = origin.describe_data(part)
    before = rundir.origin_in(flags.output_dir) if flags.output_dir else None
    descriptor = flags.descriptor_weights or ""
    return origin.plain({
        "flags": origin.deciding_flags(flags, pretext.settled),
        "data": data,
        "descriptor": origin.describe_weights(descriptor, (before or {}).get("descriptor")),
        "weights": origin.describe_weights(flags.start_from, (before or {}).get("weights")),
        "model": pretext.model.config,
        "together": origin.clips_together(
            pretext.model, assembly.resolved.batch_size * assembly.workers.world_size,
            compared=pretext.compares,
        ),
    })  # fmt: skip


def _face_window(
    given: list[int] | None, data_set: str | None, data_path: str, size: int
) -> tuple[int, int, int, int] | None:
    """`--face_window`, or that of the data set for clips of this size; says which."""
    if given:
        return tuple(given)
    spec = build.resolve_spec(data_set, data_path)
    window = spec.face_window(size) if spec else None
    if window is None:
        return None
    why = "--data_set" if data_set else "the path of the CSV"
    logger.info(
        "frames are cut to the window of %s (top, left, height, width) = %s, chosen by %s; "
        "--face_window overrides it", spec.name, window, why,
    )  # fmt: skip
    return window


def _finish(run: Training, pretext: Pretext, annotations, window) -> None:
    """Draw the curves and what else was asked for."""
    run.model, output_dir = run.parallel.whole(run.model), run.output_dir
    if not (output_dir and run.workers.is_main):
        return
    from svfap.engine.report.plots import plot_training  # slow, and not needed before

    plot_training(output_dir)
    pretext.draw(run, annotations, window, output_dir)
    if run.flags.report:
        from svfap.engine.report.page import write_report

        write_report(output_dir)
    logger.info("checkpoints, log and pictures are in %s", output_dir)
