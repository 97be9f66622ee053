"""Pre-training: `run_pretrain.py` from its flags to checkpoints and pictures."""

import argparse
import logging
from pathlib import Path

import torch

from datasets import clips, rng
from datasets.annotations import read_annotations
from datasets.masking import make_masking
from datasets.store import stores_of
from engine import build, distributed, plan, reconstruct, rundir
from engine.checkpoint import Position
from engine.log import EpochLog, set_up_logging
from engine.loop import Training, train
from engine.objectives import MaskedReconstruction
from engine.optim import create_optimizer, parameter_settings
from engine.precision import choose_precision, set_up_kernels
from engine.probing import PretrainingProbe
from engine.report import write_report
from engine.schedules import cosine_schedule, weight_decay_schedule
from engine.unreadable import UnreadableBudget

logger = logging.getLogger(__name__)


def pretrain(flags: argparse.Namespace) -> None:
    """Pre-train as the flags say; resumes what it finds in `--output_dir`.

    Raises:
        ValueError: flags or files that cannot work, each with the remedy.
        StoppedBySignalError: interrupted and saved.
    """
    workers = distributed.start(flags.device)
    set_up_logging(workers.is_main)
    set_up_kernels(workers.device)
    build.require(flags, "data_path", *(["probe_path"] if flags.probe_every else []))
    model = build.create_model(flags)
    masking = _masking(flags, model)
    objective = _objective(flags, model, masking)
    annotations = read_annotations(
        flags.data_path,
        task="pretrain",
        data_root=flags.data_root,
        check_paths=flags.check_paths,
    )
    window = _face_window(flags)
    precision = choose_precision(flags.amp, workers.device, width=model.embed_dim)
    batch = build.global_batch(flags, workers.world_size)
    steps = build.steps_per_epoch(len(annotations), batch)
    rows = _plan(flags, model, masking, precision, annotations, window, batch, steps, workers)
    logger.info("plan\n%s", plan.describe(rows))
    if flags.dry_run:
        return
    resume = rundir.find_checkpoint(flags)
    facts = {"model": model.config, "global_batch": batch, "face_window": window}
    output_dir = rundir.open_run(flags, workers, facts | {"stores": stores_of(annotations.paths)})
    model.to(workers.device)
    run = _training(flags, workers, model, objective, masking, annotations, window,
                    precision, batch, steps, output_dir)  # fmt: skip
    if resume:
        run.resume_from(resume)
    if flags.compile:
        model.compile()
    log = EpochLog(
        output_dir if workers.is_main else None, flags.log_dir if workers.is_main else None
    )
    probing = PretrainingProbe(flags, workers, model.config) if flags.probe_every else None

    def after_epoch(epoch: int) -> dict:
        return probing(epoch, model.state_dict()) if probing else {}

    try:
        train(run, log, after_epoch)
    finally:
        log.close()
    _finish(flags, run, objective, masking, annotations, window, output_dir)


def _masking(flags: argparse.Namespace, model):
    """The masks of `--mask_type`; what was not given follows from the model's encoder.

    Raises:
        ValueError: masks that the encoder cannot use, each with the remedy.
    """
    region_size = getattr(model.encoder, "region_size", None)
    if flags.mask_type is None:
        flags.mask_type = "part_window" if region_size else "tube"
    if flags.mask_type == "part_window" and flags.part_win_size is None and region_size:
        flags.part_win_size = list(region_size)
        logger.info("mask windows are the regions of the LGI-Former: %s tokens", region_size)
    masking = make_masking(
        flags.mask_type,
        model.grid,
        flags.mask_ratio,
        part_win_size=flags.part_win_size,
        symmetry=flags.part_apply_symmetry,
    )
    needed = model.encoder.balanced_window
    if needed and any(size % window for size, window in zip(needed, masking.window)):
        windows = f" in windows of {masking.window}" if flags.mask_type == "part_window" else ""
        raise ValueError(
            f"--mask_type {flags.mask_type}{windows} does not show equally many tokens in all "
            f"regions, as the LGI-Former needs; its regions are {region_size} tokens (t, h, w). "
            f"Use --mask_type part_window with --part_win_size "
            f"{' '.join(map(str, region_size))}, or others whose height and width divide these"
        )
    sample = masking(rng.generator(flags.seed, 0, 0, 0, "mask"))
    model.encoder.check_mask(torch.from_numpy(sample)[None])
    if flags.mask_type == "random" and "svfap" in model.config["name"]:
        logger.warning(
            "--mask_type random: SVFAP merges time steps token by token and was published with "
            "tube masks, which show the same places in all steps"
        )
    return masking


def _objective(flags: argparse.Namespace, model, masking) -> MaskedReconstruction:
    if flags.color_jitter:
        raise ValueError(
            f"--color_jitter {flags.color_jitter}: pre-training uses none; leave it out"
        )
    motion = flags.use_frame_diff_as_target
    for name, default in (("target_diff_weight", None), ("frame_diff_group_size", 2)):
        if getattr(flags, name) != default and not motion:
            raise ValueError(f"--{name} belongs to --use_frame_diff_as_target; give both or none")
    if motion and flags.num_frames % flags.frame_diff_group_size:
        raise ValueError(
            f"--frame_diff_group_size {flags.frame_diff_group_size}: must divide --num_frames "
            f"({flags.num_frames})"
        )
    return MaskedReconstruction(
        tubelet=model.tubelet,
        num_visible=masking.num_visible,
        decoder_mask_share=flags.decoder_mask_share,
        normalise=flags.normlize_target,
        group_frames=flags.frame_diff_group_size if motion else None,
        motion_weight=flags.target_diff_weight if motion else None,
    )


def _face_window(flags: argparse.Namespace) -> tuple[int, int, int, int] | None:
    """`--face_window`, or that of the data set; says which."""
    if flags.face_window:
        return tuple(flags.face_window)
    spec = build.resolve_spec(flags)
    if spec is None or spec.face_window is None:
        return None
    why = "--data_set" if flags.data_set else "the path of the CSV"
    logger.info(
        "frames are cut to the window of %s (top, left, height, width) = %s, chosen by %s; "
        "--face_window overrides it", spec.name, spec.face_window, why,
    )  # fmt: skip
    return spec.face_window


def _training(flags, workers, model, objective, masking, annotations, window, precision, batch,
              steps, output_dir) -> Training:  # fmt: skip
    dataset = clips.PretrainClips(
        annotations=annotations,
        clip_frames=flags.num_frames,
        stride=flags.sampling_rate,
        size=model.img_size,
        masking=masking,
        seed=flags.seed,
        face_window=window,
        backend=flags.reader,
        clips_per_video=flags.num_samples,
    )
    sampler = clips.EpochSampler(
        num_samples=len(annotations),
        batch_size=flags.batch_size,
        seed=flags.seed,
        rank=workers.rank,
        world_size=workers.world_size,
        accumulation=flags.update_freq,
    )
    loader = clips.make_loader(
        dataset,
        sampler,
        num_workers=build.num_workers(flags),
        pin_memory=flags.pin_mem and workers.device.type == "cuda",
    )
    peak, final, first = build.peak_rates(flags, batch)
    settings = parameter_settings(model, weight_decay=flags.weight_decay, layer_decay=None)

    def loss_of(wrapped, part, draws):
        return objective(
            wrapped, part, device=workers.device, autocast=precision.autocast, draws=draws
        )

    return Training(
        flags=flags,
        workers=workers,
        model=model,
        optimizer=create_optimizer(model, flags, settings),
        loader=loader,
        loss_of=loss_of,
        rates=cosine_schedule(
            peak, final, epochs=flags.epochs, steps_per_epoch=steps,
            warmup_epochs=flags.warmup_epochs, warmup_steps=flags.warmup_steps, start_value=first,
        ),
        weight_decays=weight_decay_schedule(flags, steps),
        steps_per_epoch=steps,
        precision=precision,
        output_dir=output_dir,
        budget=UnreadableBudget(
            num_videos=len(annotations), share=flags.max_unreadable,
            output_dir=output_dir, workers=workers,
        ),
        position=Position(),
    )  # fmt: skip


def _plan(flags, model, masking, precision, annotations, window, batch, steps, workers) -> dict:
    cost = plan.clip_cost(model, num_visible=masking.num_visible)
    peak, final, _ = build.peak_rates(flags, batch)
    return plan.model_rows(model, cost, flags, precision, batch) | {
        "masking": f"{flags.mask_type}, {masking.num_visible} of {model.num_tokens} tokens visible",
        "videos": f"{len(annotations)} in {flags.data_path}",
        "face window": build.window_text(window, annotations),
        "steps": f"{steps} per epoch, {flags.epochs} epochs"
        + (f", at most {flags.max_steps} in all" if flags.max_steps else ""),
        "learning rate": f"{peak:.3g} at its peak, {final:.3g} at the end",
        "device": f"{workers.world_size} x {workers.device}",
        "output": flags.output_dir or "none",
    }


def _finish(flags, run, objective, masking, annotations, window, output_dir: Path | None) -> None:
    """Draw the curves and reconstructions that were asked for."""
    if not (output_dir and run.workers.is_main):
        return
    reconstruct.plot_training(output_dir)
    if flags.visualize:
        reconstruct.draw_reconstructions(
            run.model,
            objective,
            masking,
            annotations,
            flags=flags,
            window=window,
            precision=run.precision,
            device=run.workers.device,
            output_dir=output_dir / "reconstructions",
        )
    if flags.report:
        write_report(output_dir)
    logger.info("checkpoints, log and pictures are in %s", output_dir)
