"""Weights that others published, under our names.

A format is told by its names alone. Converting renames tensors and joins or leaves out some; what
of a model's options the format fixes is stated with it (docs/public_weights.md).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # values of [0, 1] as they are
PATCH = "patch_embed.proj.weight"
HEAD = "video"  # of S4D, which has one for images, too
_BLOCK_OF_HF = (
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.([qv]_bias)$", r".attn.\1"),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


@dataclass(frozen=True, kw_only=True)
class Format:
    """How somebody's files name things.

    Attributes:
        options: of `create_model`, as far as the format fixes them.
        fixed: arguments of the released constructor that are constants here.
        class_orders: number of classes -> their names in the released files with so many.
    """

    title: str  # what messages call it
    family: str = "videomae"  # of `models.registry`
    marks: str  # a name that this is found in tells the format
    renames: tuple[tuple[str, str], ...] = ()  # (pattern, replacement), applied one after the other
    left_out: str = r"(?!)"  # names that this is found in have no use here
    options: Mapping = field(default_factory=dict)
    fixed: Mapping = field(default_factory=dict)
    class_orders: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    normalisation: tuple = IMAGENET  # mean and std of the clips
    stride: int = 4  # distance of a clip's frames


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What clips a model was trained with."""

    size: int  # side of a frame in pixels
    frames: int  # of a clip
    stride: int  # distance of these in the video
    mean: tuple[float, float, float]  # of each colour, subtracted from values in [0, 1]
    std: tuple[float, float, float]  # of each colour, by which the difference is divided
    class_order: tuple[str, ...] | None = None  # names of the outputs, as far as they are known

    def __getitem__(self, name: str) -> object:
        """As from a mapping: `preprocessing["mean"]`."""
        return getattr(self, name)


def normalisation_of(config: Mapping) -> tuple:
    """Mean and std of the clips that the model of a config takes."""
    return tuple(tuple(config.get(name) or usual) for name, usual in zip(("mean", "std"), IMAGENET))


def described_normalisation(content: Mapping, form: "Format") -> tuple:
    """Mean and std of the clips of a file of others: as its description says, or as usual."""
    described = content.get("hf_preprocessor") or {}
    return tuple(
        tuple(described.get(f"image_{name}") or usual)
        for name, usual in zip(("mean", "std"), form.normalisation)
    )


# Orders of MiRA's released fine-tuned weights, not those of the data sets' own lists.
_OF_DFEW = ("disgust", "sad", "neutral", "surprise", "angry", "happy", "fear")  # and FERV39k
_OF_MAFW = (
    "contempt", "anxiety", "neutral", "sadness", "anger", "disgust", "fear", "surprise",
    "happiness", "helplessness", "disappointment",
)  # fmt: skip
PLAIN = Format(title="ViT of VideoMAE", marks="")
FORMATS = (
    Format(
        title="VideoMAE of transformers",
        marks=r"\.attention\.attention\.query\.",
        renames=(
            (r"^videomae\.", ""),
            (r"^embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
            (r"^encoder\.layer\.", "encoder.blocks."),
            (r"^layernorm\.", "encoder.norm."),
            (r"^decoder\.decoder_layers\.", "decoder.blocks."),
            *_BLOCK_OF_HF,
            (r"^classifier\.", "head."),
        ),
        left_out=r"position_embeddings$",
        options={"norm_eps": 1e-12, "last_norm_eps": 1e-5},
    ),
    Format(
        title="MARLIN",
        family="marlin",
        marks=r"patch_embedding\.projection\.",
        renames=(
            (r"^(marlin|model)\.", ""),
            (r"patch_embedding\.projection\.", "patch_embed.proj."),
            (r"^encoder\.pos_embedding\.emb$", "encoder.position_table"),
            (r"^decoder\.pos_embedding\.emb$", "decoder_position_table"),
            (r"\.mlp\.layers\.0\.linear\.", ".mlp.fc1."),
            (r"\.mlp\.layers\.1\.linear\.", ".mlp.fc2."),
            (r"^enc_dec_proj\.", "encoder_to_decoder."),
            (r"^decoder\.mask_token$", "mask_token"),
        ),
        left_out=r"^discriminator\.",
        normalisation=PIXELS,
        stride=2,
    ),
    Format(
        title="MARLIN under our names",  # whose normalisation its configuration tells
        family="marlin",
        marks=r"(^|\.)position_table$",
        stride=2,
    ),
    Format(
        title="V-JEPA 2",
        family="vjepa2",
        marks=r"(^|\.)layer\.0\.attention\.query\.|\.attn\.k_bias$",
        renames=(
            (r"^vjepa2\.", ""),
            (r"^encoder\.", ""),
            (r"^embeddings\.patch_embeddings\.", "patch_embed."),
            (r"^layer\.", "blocks."),
            (r"\.attention\.proj\.", ".attn.proj."),
            (r"\.attention\.(query|key|value)\.", r".attn.\1."),
            (r"^layernorm\.", "norm."),
        ),
        left_out=r"^(predictor|pooler|classifier)\.",
    ),
    Format(
        title="HiCMAE",
        family="hicmae",
        marks=r"^encoder_audio\.",
        left_out=r"audio|fusion|^fc_norm\.",
    ),
    Format(title="HiCMAE, video alone", family="hicmae", marks=r"^video_layer_weights$"),
    Format(title="S4D", family="s4d", marks=r"\.moe_layer\."),
    Format(
        title="MiRA",
        family="mira",
        marks=r"\.c_buf$",
        fixed={
            "beta": 1.5,
            "lam": 0.1,
            "eps": 1e-6,
            "floor_eps": 1e-3,
            "w_self": 0.5,
            "w_entropy": 0.5,
            "alpha_min": 0.7,
            "alpha_max": 1.4,
            "mix_eta": 0.5,
            "ema_m": 0.9,
        },  # fmt: skip
        class_orders={len(names): names for names in (_OF_DFEW, _OF_MAFW)},
    ),
)
_REFUSED = {
    r"\.fourth_attn\.": "AVF-MAE++, whose released code cannot run, so that its model is not known",
    r"\.attn\.scale$": "a ViT with cosine attention, which no released model has",
}


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Weights under our names."""

    format: Format  # what they were
    # the tensors; those of pre-training under "encoder.", "decoder." and "mask_token"
    entries: dict[str, Tensor]
    unused: list[str] = field(default_factory=list)  # names in the file that have no use here
    notes: list[str] = field(default_factory=list)  # what else a user should know


def convert_names(entries: Mapping[str, Tensor], source: str, head: str = HEAD) -> Converted:
    """Weights of any known format under our names; ours stay as they are.

    Of several heads `head` is taken. ValueError: a model that is known and not offered.
    """
    is_vit = any(name.endswith(PATCH) and value.ndim == 5 for name, value in entries.items())
    for mark, what in _REFUSED.items():
        if is_vit and any(re.search(mark, name) for name in entries):
            raise ValueError(f"{source} is of {what}; it cannot be used.")
    found = [f for f in FORMATS if any(re.search(f.marks, name) for name in entries)]
    form = found[0] if found else PLAIN
    entries = _without_prefix(entries)
    unused = [name for name in entries if re.search(form.left_out, name)]
    kept = {}
    for name, value in entries.items():
        if not re.search(form.left_out, name):
            for pattern, replacement in form.renames:
                name = re.sub(pattern, replacement, name)
            kept[name] = value
    kept, notes = _joined(kept), []
    alone = all(name.startswith(("encoder.", "head.", "fc_norm.")) for name in kept)
    alone &= any(name.endswith("norm.weight") and ".blocks." not in name for name in kept)
    if "mask_token" not in kept and (form is not PLAIN or alone):
        kept = {name.removeprefix("encoder."): value for name, value in kept.items()}
        left_out, notes = _settle_heads(kept, form, head)
        unused += left_out
        if form.family == "marlin":  # its last norm follows the mean
            kept = {re.sub(r"^norm\.", "fc_norm.", name): value for name, value in kept.items()}
    for name in ("encoder.position_table", "position_table", "decoder_position_table"):
        if name in kept:
            kept[name] = kept[name].reshape(-1, kept[name].shape[-1])  # (N, D)
    return Converted(format=form, entries=kept, unused=unused, notes=notes)


def _without_prefix(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries without what others put around a ViT ("backbone.", "model.")."""
    stem = next((n for n, v in entries.items() if n.endswith(PATCH) and v.ndim == 5), PATCH)
    prefix = stem.removesuffix(PATCH).removesuffix("encoder.")
    return {name.removeprefix(prefix): value for name, value in entries.items()}


def _joined(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    """Separate queries, keys and values as one matrix and its biases."""
    joined = {}
    for name, value in entries.items():
        stem, _, rest = name.rpartition(".attn.")
        part, _, kind = rest.partition(".")
        if part not in ("query", "key", "value"):
            joined[name] = value
        elif kind == "bias":
            joined[f"{stem}.attn.{part[0]}_bias"] = value
        elif part == "query":
            parts = [entries.get(f"{stem}.attn.{one}.weight") for one in ("query", "key", "value")]
            joined[f"{stem}.attn.qkv.weight"] = torch.cat([p for p in parts if p is not None])
    return joined


def _settle_heads(entries: dict[str, Tensor], form: Format, head: str) -> tuple[list, list]:
    """Keep one head that the model can have, as "head."; names left out, and what to say."""
    names = [name for name in entries if name.startswith("head.")]
    several = sorted({name.split(".")[1] for name in names if name.count(".") == 2})
    if several and head not in several:
        raise ValueError(f"there is no head {head!r}; there are: {', '.join(several)}.")
    dim = len(entries.get("blocks.0.norm1.weight", ()))
    notes, kept = [], names
    if several:
        kept = [name for name in names if name.startswith(f"head.{head}.")]
        notes.append(f"of the heads {', '.join(several)} that of {head} is taken (head=NAME)")
    elif names and form.family == "videomae" and "fc_norm.weight" not in entries:
        kept = []
        notes.append("its classifier reads the first token only (use_mean_pooling false): left out")
    elif names and entries["head.weight"].shape[1] != dim:
        kept = []
        notes.append("its head reads more than the video: left out")
    for name in names:
        value = entries.pop(name)
        if name in kept:
            entries[f"head.{name.rpartition('.')[2]}"] = value
    return [name for name in names if name not in kept], notes


def renormalisation(theirs: tuple, ours: tuple) -> str | None:
    """What `renormalised` does, in words; None for nothing."""
    if theirs == ours:
        return None
    return (
        f"the patch embedding makes up for another normalisation of clips: mean {ours[0]} and std "
        f"{ours[1]}, in training {theirs[0]} and {theirs[1]}"
    )


def renormalised(entries: dict[str, Tensor], theirs: tuple, ours: tuple) -> dict[str, Tensor]:
    """Weights that answer clips normalised our way as they answered clips normalised theirs.

    The patch embedding is linear, so that it takes over the difference exactly.

    Args:
        theirs: mean and std, of three colours each, that the weights were trained with.
        ours: those that clips will have.
    """
    name = next((n for n in (PATCH, f"encoder.{PATCH}") if n in entries), None)
    if name is None or theirs == ours:
        return entries
    bias_name = name.removesuffix("weight") + "bias"
    pairs = torch.tensor([theirs, ours], dtype=torch.float64)
    (mean, std), (our_mean, our_std) = pairs.view(2, 2, 1, 3, 1, 1, 1)
    weight = entries[name].double()  # (D, C, frames, height_px, width_px)
    shift = (weight * (our_mean - mean) / std).flatten(1).sum(1)
    changed = {name: weight * our_std / std, bias_name: entries[bias_name].double() + shift}
    return entries | {key: value.to(entries[key].dtype) for key, value in changed.items()}
