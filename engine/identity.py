"""What a checkpoint is: its model, which of its weights count, and what its answers mean.

Evaluation, prediction, probes, export and verification all ask here.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from svfap import models
from svfap.datasets.catalog import DatasetSpec, get_spec
from svfap.datasets.labels.classes import LabelNames, read_classes
from svfap.datasets.labels.kinds import UNNAMED
from svfap.engine import build
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.flag import Flags
from svfap.engine.tasks.base import create_task
from svfap.engine.tasks.task import Task
from svfap.models.weights.formats import (
    IMAGENET,
    PLAIN,
    convert_names,
    described_normalisation,
    normalisation_of,
    renormalisation,
    renormalised,
)
from svfap.models.weights.hub import SourceError, locate
from svfap.models.weights.loading import below, named_tensors, training_flags
from svfap.models.weights.opening import Opened, understand
from svfap.models.weights.weight_file import CHOSEN, read_described

logger = logging.getLogger(__name__)

DEFAULT_FPS = 25.0  # of the papers' videos
SIZE_PX = 160  # of the papers' clips
# Of a checkpoint, what beside its weights says what they are.
_FACTS = ("model_config", "clips", "class_names", "args", "flags", "hf_config", "hf_preprocessor")
# Flags that help to find out what a file is that does not say it.
_HELPFUL = ("input_size", "num_frames", "stage_depths", "lg_region_size", "use_fmp_flashlite")
# Of a model, what its weights do not decide for a run that begins with them.
_OF_THE_RUN = {
    *("num_classes", "drop_path_rate", "head_activation", "keep_temporal_dim", "head_norm"),
    "stats_mode",
}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a file of weights is.

    Attributes:
        source: the file, or hf:// with commit and file.
        config: keywords of `models.create_model`.
        stated: whether the file states its model; otherwise it was found out, or told.
        weights: the chosen ones, by name.
        averaged: whether they are averaged weights.
        labels: what the outputs mean, numbers where nothing says it; None without a head.
        flags: those of its training, as far as the file has them.
        spec: data set it was trained for, if of the catalogue.
        sampling_rate: distance of the frames of its clips; None where nothing says it.
        face_window: part of the frames it was trained on, (top, left, height, width) in pixels.
        fps: frame rate of its training videos; None where nothing says it.
        is_best: whether it was chosen for its validation score.
        chosen_on: what such weights are chosen on, in words.
        notes: what was left out or assumed.
    """

    source: str
    config: dict
    stated: bool
    weights: dict[str, Tensor]
    averaged: bool
    labels: LabelNames | None
    flags: Mapping
    spec: DatasetSpec | None
    sampling_rate: int | None
    face_window: tuple[int, int, int, int] | None
    fps: float | None
    is_best: bool
    chosen_on: str | None
    notes: Sequence[str] = ()

    @property
    def crops(self) -> DatasetSpec:
        """Whose crops its videos were like."""
        return self.spec or get_spec("custom")

    def require_head(self) -> None:
        """Raise ValueError unless the model answers something."""
        if self.labels is None:
            raise ValueError(
                f"{self.source} is a pre-trained encoder without a head, which cannot answer "
                "anything; fine-tune it first (python -m svfap finetune --finetune FILE), then "
                "give that checkpoint"
            )

    def build(self) -> tuple[nn.Module, models.LoadReport]:
        """The model with its weights, on the CPU, and what was loaded.

        Raises:
            ValueError: sizes that cannot be, or weights that do not fit them.
        """
        try:
            model = models.create_model(**self.config)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from error
        return model, self.load(model)

    def load(self, model: nn.Module) -> models.LoadReport:
        """Put the weights into a model, strictly."""
        content = {"model": self.weights, "model_config": self.config}
        report = models.load_weights(model, content, called=self.source)
        report.notes = [*self.notes, *report.notes]
        return report

    def task(self) -> Task:
        """The task that turns outputs into scores, as it was trained."""
        flags = Flags(**vars(finetuning_parser().parse_args([])) | dict(self.flags))
        labels = self.labels
        return create_task(labels.task, flags, list(labels.class_names), labels.heads)


def identify(
    path: str | Path,
    *,
    averaged: bool | None = None,
    told: Mapping | None = None,
    data_set: str | None = None,
    class_names: Sequence[str] | None = None,
    keys: Sequence[str] = (),
    prefix: str = "",
) -> Identity:
    """Find out what a file of weights is.

    Args:
        path: ours, released, or converted; or what else `models.weights.hub.locate` takes.
        averaged: True takes the averaged weights, False the last ones (but of a best checkpoint
            the best); None those that the file names as chosen, which its scores are of.
        told: for files that do not state their model, options of `models.create_model` with its
            `name`, or without it flags that help `models.guess_config`.
        data_set: of the catalogue, for files that do not name theirs.
        class_names: of the outputs, for files that do not name theirs, or in place of these.
        keys: see `models.load_weights`.
        prefix: see `models.load_weights`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no weights, weights of an unknown model, or a contradiction to the arguments.
    """
    located = locate(path)
    source, content = located.source, read_described(located.path)
    averaged = None if averaged is False and content.get("is_best") else averaged
    weights = _weights(content, source, averaged, keys, prefix)
    opened = _opened(content, weights, source, {**located.told, **(told or {})})
    config, form = opened.config, opened.converted.format
    flags = training_flags(content)
    spec = get_spec(data_set) if data_set else _known_spec(flags.get("data_set"))
    clips = content.get("clips") or {}
    window = clips.get("face_window") or flags.get("face_window")
    if window is None and spec and "face_window" not in clips:
        window = spec.face_window(config.get("img_size", SIZE_PX))
    known_names = None if content.get("class_names") else opened.class_order
    return Identity(
        source=source,
        config=config,
        stated=bool(content.get("model_config")),
        weights=renormalised(opened.converted.entries, normalisation_of(opened.trained), IMAGENET),
        averaged=(averaged or (averaged is None and content.get(CHOSEN) == "model_ema")),
        labels=_labels(content, config, flags, spec, class_names or known_names, source),
        flags=flags,
        spec=spec,
        sampling_rate=clips.get("sampling_rate")
        or flags.get("sampling_rate")
        or (spec and spec.sampling_rate)
        or (None if form is PLAIN else form.stride),
        face_window=tuple(window) if window else None,
        fps=clips.get("fps"),
        is_best=bool(content.get("is_best")),
        chosen_on=content.get("chosen_on"),
        notes=(*opened.converted.notes, *opened.notes),
    )


def told_by(given: Mapping) -> dict:
    """What flags say about the model of a file that does not say it itself; see `identify`."""
    return {name: given[name] for name in _HELPFUL if name in given}


def where_weights_are(given: Mapping) -> dict:
    """What `--model_key` and `--model_prefix` say about a file of weights."""
    keys = given["model_key"].split("|") if "model_key" in given else ()
    return {"keys": keys, "prefix": given.get("model_prefix", "")}


class Beginning(NamedTuple):
    """What a run takes over from the weights that it begins with."""

    model: dict = {}  # keywords of `create_model`
    sampling_rate: int | None = None  # of their clips


def begin_with(
    flags: Flags,
    source: str,
    before: Mapping | None,
    *,
    pretraining: bool = False,
    **where: object,
) -> Beginning:
    """Shape and clips of the weights that a run begins with; flags that were given win.

    A run that goes on keeps what it was begun with.

    Args:
        flags: of the run; nothing is taken over where `--model` names another encoder.
        source: of the weights; "" for none.
        before: of the run that goes on, by `rundir.run_to_go_on`.
        pretraining: the masked autoencoder, else the classifier, that has their encoder.
        where: keywords of `identify`.

    Raises:
        FileNotFoundError: no such weights, nor a run in `--output_dir` that began with them.
        ValueError: they cannot be used, or their encoder is not for this.
    """
    if not source:
        return Beginning()
    named = "model" in flags.explicit and models.encoder_name(
        models.default_config(flags.model)["name"]
    )
    if before is not None:
        config = before["model"]
        rate = {**before["flags"], **before["clips"]}.get("sampling_rate")
        if not before["clips"]:  # without a checkpoint it begins anew
            with suppress(ValueError, FileNotFoundError):
                rate = identify(source, told=told_by(flags.given), **where).sampling_rate
    else:
        try:
            known = identify(source, told=told_by(flags.given), **where)
        except SourceError:
            raise
        except ValueError:
            if named:  # then `--model` says what the file does not
                return Beginning()
            raise
        config, rate = known.config, known.sampling_rate
    if not config or (named and models.encoder_name(config["name"]) != named):
        return Beginning()
    name = "pretrain_" * pretraining + models.encoder_name(config["name"])
    if pretraining and name not in models.list_models():
        raise ValueError(
            f"{source} holds a {config['name']}, which has no masked autoencoder here; there are "
            f"{', '.join(models.list_models('pretrain_*'))}"
        )
    model = _kept_sizes(config, name, flags.given, source)
    return Beginning(model, None if "sampling_rate" in flags.given else rate)


def _kept_sizes(config: Mapping, name: str, given: Mapping, source: str) -> dict:
    """What a model of that name takes over of a config: all but what flags say; says what that is.

    Returns:
        Keywords of `create_model`.
    """
    told = {key: flag for flag, key in build.MODEL_FLAGS.items() if flag in given}
    sizes = models.default_config(name).keys() - _OF_THE_RUN
    other = [
        f"--{flag} {given[flag]} ({config[key]})"
        for key, flag in told.items()
        if key in sizes and config.get(key, given[flag]) != given[flag]
    ]
    if other:
        anew = {"input_size", "num_frames", "patch_size"} & set(told.values())
        note = "; positions are computed anew for that size" if anew else ""
        logger.info("other than in %s: %s%s", source, ", ".join(other), note)
    kept = sizes - told.keys()
    return {key: value for key, value in config.items() if key in kept} | {"name": name}


def _weights(
    content: dict, source: str, averaged: bool | None, keys: Sequence[str], prefix: str
) -> dict[str, Tensor]:
    if averaged and not content.get("model_ema"):
        raise ValueError(f"{source} holds no averaged weights (model_ema); leave the flag out")
    if averaged is not None and not keys:
        keys = ("model_ema",) if averaged else ("model",)
    return below(prefix, named_tensors(content, source, keys=keys), source)[0]


def _opened(content: dict, weights: Mapping[str, Tensor], source: str, told: dict) -> Opened:
    """Which model it is: as stated, else as told, else found out; it takes ImageNet's clips."""
    facts = {key: content[key] for key in _FACTS if key in content}
    stated, name = content.get("model_config"), told.get("name")
    name = name and models.default_config(name)["name"]
    if stated and name not in (None, stated["name"]):
        raise ValueError(
            f"{source} holds a {stated['name']}, --model says {name}; leave --model out"
        )
    if stated or not name:
        opened = understand(facts | {"model": weights}, source, {} if stated else told)
    else:
        opened = _named(facts, weights, source, told)
    usual = {key: None for key in ("mean", "std") if key in opened.config}
    opened.config = opened.config | usual
    if note := renormalisation(normalisation_of(opened.trained), IMAGENET):
        opened.notes.append(note)
    return opened


def _named(facts: dict, weights: Mapping[str, Tensor], source: str, told: dict) -> Opened:
    """A file of the model that `--model` names."""
    converted = convert_names(weights, source)
    config = models.default_config(told["name"])
    config |= {key: value for key, value in converted.format.options.items() if key in config}
    if "num_classes" in config:
        head = converted.entries.get("head.weight")
        config["num_classes"] = 0 if head is None else head.shape[0]
    mean, std = described_normalisation(facts, converted.format)
    return Opened(
        trained={"mean": mean, "std": std},
        config=config | told,
        stated=False,
        converted=converted,
        stride=converted.format.stride,
        class_order=converted.format.class_orders.get(config.get("num_classes")),
    )


def _known_spec(name: object) -> DatasetSpec | None:
    """The data set that training flags name; files from elsewhere may name others."""
    try:
        return get_spec(str(name)) if name else None
    except ValueError:
        return None


def _labels(
    content: dict,
    config: Mapping,
    flags: Mapping,
    spec: DatasetSpec | None,
    class_names: Sequence[str] | None,
    source: str,
) -> LabelNames | None:
    """What the outputs mean: as stated, as told, as in the data set, or numbers.

    Raises:
        ValueError: other names than outputs.
    """
    count = config.get("num_classes")
    if not count:
        return None
    names = content.get("class_names") or class_names or (spec and spec.class_names)
    labels = LabelNames.of_numbers(count)
    if names:
        labels = LabelNames(
            task=content.get("task") or _task(spec, flags),
            class_names=tuple(names),
            heads={head: tuple(own) for head, own in (content.get("heads") or {}).items()},
        )
    if class_names and labels.heads:
        raise ValueError(f"{source} names its outputs itself; leave --class_names out")
    labels = replace(labels, class_names=tuple(class_names)) if class_names else labels
    if len(labels.output_names) != count:
        raise ValueError(
            f"{source}: the model has {count} outputs, but there are {len(labels.output_names)} "
            f"names ({', '.join(labels.output_names)}); give the right --data_set or --class_names"
        )
    return labels


def _task(spec: DatasetSpec | None, flags: Mapping) -> str:
    """Of files that do not state it: the data set's, that of the labels trained on, or classes."""
    if spec and spec.class_names:
        return spec.task
    beside = read_classes(flags["data_path"]) if flags.get("data_path") else None
    return beside.task if beside else UNNAMED
