"""Fine-tuning and evaluation: `run_finetune.py` from its flags to metrics and predictions."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path

from svfap import models
from svfap.datasets.augment.randaugment import RandAugment
from svfap.datasets.clips import training as clips
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.loading.loader import Batches, Loader
from svfap.engine import build, selection
from svfap.engine.assembly import Assembly, begin
from svfap.engine.compute.levers import choose_levers
from svfap.engine.compute.parallel import check_sharding
from svfap.engine.compute.step import augment_together
from svfap.engine.evaluate import write_results
from svfap.engine.flags.flag import Flags
from svfap.engine.flags.presets import Choice, choose_preset
from svfap.engine.identity import (
    Identity,
    begin_with,
    identify,
    told_by,
    where_weights_are,
)
from svfap.engine.loop import Training
from svfap.engine.results.chance import chance
from svfap.engine.results.features import check_formats
from svfap.engine.results.intervals import bootstrap_intervals
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.predictions import Predictions, read_metrics
from svfap.engine.runtime import checkpoint, origin, plan, rundir
from svfap.engine.setting import Setting, settle
from svfap.engine.tasks.base import FinetuningLoss
from svfap.models.weights.hub import locate
from svfap.models.weights.weight_file import CHOSEN

logger = logging.getLogger(__name__)

RESULTS = ("metrics.json", "pred.csv")
ALIASES = {"acc1": "war"}


def finetune(flags: Flags) -> dict | None:
    """Fine-tune and test, or with `--eval` only test; the final metrics (None for `--dry_run`).

    Raises:
        ValueError: flags or files that cannot work, each with the remedy.
        StoppedBySignalError: interrupted and saved.
    """
    workers = begin(flags.device)
    flags.require("data_path")
    if flags.save_feature:
        check_formats(flags.feature_format)
    where = where_weights_are(flags.given)
    if not flags.eval:
        before = rundir.run_to_go_on(flags.output_dir, flags.resume, flags.auto_resume)
        start = begin_with(flags, flags.finetune, before, **where)
        name = start.model.get("name", flags.model)
        preset = choose_preset(flags, name, workers.world_size, before and before["flags"])
        flags = flags.filled(preset.values)
        norm = build.head_norm(
            flags.head_norm, name, before=before and before["model"],
            alone=flags.batch_size * flags.clips_per_sample * workers.world_size == 1,
        )  # fmt: skip
        start = start._replace(model=start.model | {"head_norm": norm})
        return _train_and_test(settle(flags, workers, start=start), preset)
    told, which = told_by(flags.given), flags.given.get("test_weights")
    if "model" in flags.given:
        told = {"name": flags.model} | build.model_overrides(flags)
    identity = identify(
        _weights_to_evaluate(flags.resume or flags.finetune, flags.output_dir, flags.test_weights),
        averaged=None if which in (None, "best") else which == "ema",
        told=told,
        **where,
    )
    return _evaluate_only(settle(flags, workers, identity), identity)


def _train_and_test(setting: Setting, preset: Choice) -> dict | None:
    flags, workers = setting.flags, setting.workers
    if flags.shard:
        check_sharding(workers, setting.precision, opt=flags.opt, amp=flags.amp)
    parts = selection.read_parts(setting)
    _check_choice(setting, parts)
    assembly = Assembly(
        flags=flags, workers=workers, model=setting.model, precision=setting.precision,
        annotations=parts.train, cost=plan.clip_cost(setting.model), window=setting.window,
        sampling_rate=setting.sampling_rate,
        resume=rundir.find_checkpoint(flags.output_dir, flags.resume, flags.auto_resume),
    )  # fmt: skip
    assembly.decided_by(_origin(setting, parts))
    if not assembly.resume:
        _initialise(setting)
    setting.use(assembly.levers)
    function = FinetuningLoss(
        task=setting.task, size=setting.model.img_size, device=workers.device,
        erase_mode=flags.remode, augment_together=augment_together(setting.levers),
    )  # fmt: skip
    shapes = partial(setting.shapes, parts.train)
    assembly.tell({"preset": preset.text, **_plan_rows(setting, parts)}, function, shapes)
    if flags.dry_run:
        return None
    if assembly.is_finished(*RESULTS):
        return read_metrics(Path(flags.output_dir) / "metrics.json")
    with assembly.opened(
        task=setting.kind, class_names=setting.task.names, preset=asdict(preset),
        best_chosen_on=parts.chosen_on, training_videos=parts.describe_training(),
    ) as output_dir:  # fmt: skip
        if output_dir and workers.is_main:
            parts.write_chosen(output_dir)
        run = _training(assembly, setting, parts, function, output_dir)
        return _carry_out(assembly, setting, parts, run)


def _carry_out(assembly: Assembly, setting: Setting, parts: selection.Parts, run: Training) -> dict:
    """Train, test, and write everything down."""
    val = []
    if parts.val is not None and not setting.flags.disable_eval_during_finetuning:
        val = [setting.reading(parts.val, middle=True)]

    def after_epoch(epoch: int, loader: Loader) -> dict:
        return _validate(setting, run, parts.val, loader.read(*val)) if val else {}

    assembly.carry_out(run, after_epoch, lambda epoch: val)
    metrics = _test(setting, run, parts, run.output_dir)
    if run.output_dir and setting.workers.is_main:
        assembly.note_finished(run.output_dir)
    return metrics


def _origin(setting: Setting, parts: selection.Parts) -> dict:
    """What decides the results."""
    flags, labels = setting.flags, setting.labels
    before = rundir.origin_in(flags.output_dir) if flags.output_dir else None
    lists = {"train": parts.train, "val": parts.val, "test": parts.test}
    data = {name: origin.describe_data(part) for name, part in lists.items() if part is not None}
    if flags.average_by == "groups":
        for name in ("val", "test") if parts.val is not None else ("test",):
            data[f"groups of {name}"] = data[name] | {
                "digest": origin.describe_texts(setting.groups(lists[name]))
            }
    return origin.plain({
        "flags": origin.deciding_flags(flags),
        "data": data,
        "weights": origin.describe_weights(
            flags.finetune,
            (before or {}).get("weights"),
            keys=where_weights_are(flags.given)["keys"],
        ),
        "model": setting.model.config,
        "labels": {"task": labels.task, "names": labels.class_names, "heads": labels.heads},
        "together": origin.clips_together(
            setting.model, flags.batch_size * setting.workers.world_size
        ),
    })  # fmt: skip


def _check_choice(setting: Setting, parts: selection.Parts) -> None:
    """Refuse before the first step what could not be chosen or tested after the last one."""
    flags = setting.flags
    validates = parts.val is not None and not flags.disable_eval_during_finetuning
    if flags.test_weights == "best" and not (validates and flags.output_dir and flags.save_ckpt):
        missing = {
            "a validation part: a val.csv or --val_fraction, without "
            "--disable_eval_during_finetuning": validates,
            "an --output_dir": flags.output_dir,
            "checkpoints: leave --no_save_ckpt out": flags.save_ckpt,
        }
        needed = "; ".join(name for name, there in missing.items() if not there)
        raise ValueError(f"--test_weights best needs {needed}")
    chosen = _chosen_metric(setting)
    known = setting.metric_names(parts.val) if validates else [chosen]
    if chosen not in known:
        raise ValueError(f"--val_metric {chosen}: this task has {', '.join(sorted(known))}")


def _chosen_metric(setting: Setting) -> str:
    """What the best weights are chosen by."""
    chosen = setting.flags.val_metric or setting.task.default_metric
    return ALIASES.get(chosen, chosen)


def _initialise(setting: Setting) -> None:
    """Give the model the weights of `--finetune`, if any, and its new head `--init_scale`."""
    flags, model = setting.flags, setting.model
    if flags.init_scale != models.HEAD_SCALE:
        model.head.weight.data.mul_(flags.init_scale / models.HEAD_SCALE)
    if flags.finetune:
        where = where_weights_are(flags.given)
        report = models.load_weights(model, flags.finetune, **where)
        logger.info("weights of %s\n%s", report.source, report)


def _training(
    assembly: Assembly, setting: Setting, parts: selection.Parts, function: FinetuningLoss,
    output_dir: Path | None,
) -> Training:  # fmt: skip
    flags, model, train_set = setting.flags, setting.model, parts.train
    dataset = clips.FinetuneClips(
        annotations=train_set, clip_frames=model.num_frames, stride=setting.sampling_rate,
        size=model.img_size, seed=flags.seed, randaugment=RandAugment.parse(flags.aa),
        scale=tuple(flags.scale), ratio=tuple(flags.ratio), flip=flags.flip,
        erase_prob=flags.reprob, face_window=setting.window, backend=flags.reader,
        clips_per_video=flags.num_sample,
    )  # fmt: skip
    return assembly.training(
        function, dataset, output_dir, video_weights=selection.balance_classes(setting, train_set),
        class_names=list(setting.task.names), task=setting.kind, chosen_on=parts.chosen_on,
        heads={head: list(names) for head, names in setting.labels.heads.items()} or None,
    )  # fmt: skip


def _validate(setting: Setting, run: Training, val_set: Annotations, batches: Batches) -> dict:
    """Metrics on the middle clips of the validation part; keeps the best weights."""
    model = run.parallel.whole(run.average.module if run.average else setting.model)
    evaluated = setting.score(model, val_set, batches, middle=True, title="validation")
    loss = setting.task.loss(evaluated.scores, evaluated.labels)
    metrics = evaluated.predictions(setting.task).metrics()
    line = {"val_loss": loss} | {
        f"val_{name}": value for name, value in metrics.items() if isinstance(value, float)
    }
    chosen = _chosen_metric(setting)
    score = line[f"val_{chosen}"]
    position = run.position
    lower_is_better = chosen == "loss" or (chosen in METRICS and METRICS[chosen].lower_is_better)
    sign = -1 if lower_is_better else 1
    if position.best is None or sign * score > sign * position.best:
        position.best, position.best_epoch = score, position.epoch
        run.save(checkpoint.BEST)
    logger.info("validation: %s", "  ".join(f"{k} {v:.4f}" for k, v in line.items()))
    logger.info("best %s on %s: %.4f after epoch %d", chosen, run.facts["chosen_on"], position.best,
                position.best_epoch)  # fmt: skip
    return line


def _test(setting, run: Training, parts: selection.Parts, output_dir) -> dict:
    """Final numbers, from the weights of `--test_weights`."""
    model, which = setting.model, setting.flags.test_weights
    chosen_on = None
    if which == "ema":
        model = run.average.module
    model = run.parallel.whole(model)
    if which == "best":
        run.workers.barrier()
        content = checkpoint.read(output_dir / checkpoint.BEST)
        model.load_state_dict(content[content[CHOSEN]])
        chosen_on = parts.chosen_on
    return _report(setting, model, parts.test, "test", which, chosen_on, output_dir)


def _report(setting: Setting, model, annotations, split, weights, chosen_on, output_dir) -> dict:
    """Evaluate by the test protocol and write everything down."""
    evaluated = setting.evaluate(model, annotations, middle=False, title=split)
    predictions = evaluated.predictions(setting.task)
    metrics, note = predictions.metrics(), None
    if chosen_on:
        note = f"best weights, chosen on {chosen_on}"
        note += ": too good to report" * (chosen_on == selection.TEST_PART)
        metrics |= {"chosen_on": chosen_on, "notes": [*metrics.get("notes", []), note]}
    if setting.notes:
        metrics["notes"] = [*metrics.get("notes", []), *setting.notes]
    beside = chance(predictions, _intervals(setting, annotations, predictions))
    metrics["chance"] = beside and beside.as_dict()
    if setting.workers.is_main and output_dir:
        write_results(
            evaluated, predictions, metrics, output_dir=output_dir, weights=weights, split=split,
            label_names=setting.task.names, feature_formats=setting.flags.feature_format,
        )  # fmt: skip
        from svfap.engine.report import plots  # slow, and not needed before

        plots.plot_confusion_matrices(metrics, output_dir)
        plots.plot_training(output_dir)
        if setting.flags.report:
            from svfap.engine.report.page import write_report

            write_report(output_dir)
    if setting.workers.is_main:
        shown = "  ".join(f"{k} {v:.4f}" for k, v in metrics.items() if isinstance(v, float))
        logger.info("%s (%s weights, %d %s): %s", split, weights, metrics["num_videos"],
                    setting.flags.average_by, shown)  # fmt: skip
        if metrics.get("absent_classes"):
            logger.warning("no videos of %s: left out of UAR", metrics["absent_classes"])
        if note:
            logger.warning(note)
        if beside:
            logger.log(logging.INFO if beside.better else logging.WARNING, beside.text)
    return metrics


def _intervals(setting: Setting, annotations: Annotations, predictions: Predictions) -> dict:
    """How sure the metrics are: resampled are people, where they are known, else videos."""
    subjects = None
    if setting.flags.average_by == "videos" and not setting.task.frame_level:
        try:
            subjects = selection.known_subjects(setting, annotations)
        except ValueError as error:  # `--subjects` need not name those who are tested
            logger.warning("%s: the interval resamples videos", error)
    several = subjects is not None and len(set(subjects)) > 1
    return bootstrap_intervals(predictions, subjects if several else None)


def _weights_to_evaluate(path: str, output_dir: str, which: str) -> str:
    """Which file `--eval` tests; FileNotFoundError where there is none."""
    name = checkpoint.BEST if which == "best" else checkpoint.LAST
    path = path or str(Path(output_dir) / name)
    try:
        locate(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"--eval: {path} does not exist; name a checkpoint with --resume, or an --output_dir "
            "that holds a finished run"
        ) from error
    return path


def _evaluate_only(setting: Setting, identity: Identity) -> dict:
    flags = setting.flags
    annotations = setting.read(flags.eval_split, flags.eval_data_path)
    if annotations is None:
        raise FileNotFoundError(f"{flags.data_path} has no {flags.eval_split}.csv")
    passes = len(annotations) * flags.test_num_segment * flags.test_num_crop / flags.batch_size
    levers, compiling = choose_levers(
        setting.workers.device, wanted=flags.compile, mode=flags.compile_mode,
        without=flags.without, shard=flags.shard, passes=passes,
    )  # fmt: skip
    setting.use(levers)
    logger.info("compiled: %s", compiling)
    chosen_on = identity.chosen_on if identity.is_best else None
    output_dir = Path(flags.output_dir) if flags.output_dir else None
    rest = (flags.eval_split, identity.source, chosen_on, output_dir)
    if not output_dir:
        return _report(setting, setting.model, annotations, *rest)
    _refuse_other_data(annotations, flags.eval_split, output_dir)
    with rundir.alone_in(output_dir, setting.workers):
        return _report(setting, setting.model, annotations, *rest)


def _refuse_other_data(annotations: Annotations, split: str, output_dir: Path) -> None:
    """Keep the numbers of other videos than its own out of a run's directory."""
    before = (rundir.origin_in(output_dir) or {}).get("data", {}).get(split)
    now = origin.describe_data(annotations)
    if before and now["digest"] != before["digest"]:
        raise ValueError(
            f"{output_dir} belongs to a run whose {split} part is {before['videos']} videos of "
            f"{before['file']}, and these are {now['videos']} of {now['file']}: its results would "
            "be overwritten; choose another --output_dir for this evaluation"
        )


def _plan_rows(setting: Setting, parts: selection.Parts) -> dict[str, str]:
    flags = setting.flags
    balanced = f", classes balanced by {flags.class_balanced}" * (flags.class_balanced != "none")
    return {
        "data set": flags.data_set or "custom",
        "task": f"{setting.kind}: {', '.join(setting.task.names)}"
        + (f"; {setting.task.remark}" * bool(setting.task.remark)),
        "training": parts.describe_training() + balanced,
        "validation": parts.describe_validation(),
        "test": f"{len(parts.test)} videos, {setting.protocol}",
        "weights": flags.finetune or "random",
    }
