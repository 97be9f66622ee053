"""Image backbones of timm as encoders of clips: every frame by itself, then the mean over time.

`create_model("timm/resnet50", num_frames=1)` is the encoder of SSL-FER (arXiv 2210.03853); with
more frames it is what frame-based methods of expression recognition use. timm is imported when the
first such model is asked for.
"""

import math
from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from svfap.models.classifier import Classifier
from svfap.models.encoder import EncoderOutput, check_clip, check_positive, check_rates
from svfap.models.sizes import IMAGE_PREFIX

_STEM = "backbone."


class ImageEncoder(nn.Module):
    """A timm backbone without its classifier, for clips; has the attributes of `Encoder`.

    A frame is one token: the grid is (T, 1, 1), a tubelet one whole frame.

    Args:
        backbone: timm's name.
        img_size: height and width of a frame in pixels.
        num_frames: frames of a clip.
        drop_path_rate: stochastic depth, where the backbone has it.

    Raises:
        ValueError: a size does not fit the backbone.
    """

    def __init__(self, *, backbone: str, img_size: int, num_frames: int, drop_path_rate: float):
        import timm

        super().__init__()
        check_positive(img_size=img_size, num_frames=num_frames)
        check_rates(1.0, drop_path_rate)
        options: dict[str, object] = {"num_classes": 0}
        known = timm.get_pretrained_cfg(backbone)
        if known and known.fixed_input_size:
            options["img_size"] = img_size
        if drop_path_rate:
            options["drop_path_rate"] = drop_path_rate
        try:
            self.backbone = timm.create_model(backbone, **options)
        except (AssertionError, TypeError) as error:
            raise ValueError(
                f"timm/{backbone} cannot be built with {options}: {error}; choose another frame "
                "size or leave the option out."
            ) from error
        self.img_size, self.num_frames = img_size, num_frames
        self.embed_dim = feature_dim(self.backbone)
        self.drop_path_rate = drop_path_rate
        self.tubelet = (1, img_size, img_size)
        self.grid = (num_frames, 1, 1)
        self.num_tokens = num_frames

    @property
    def summary_steps(self) -> int:
        """Time steps that the summary of a clip distinguishes: its frames."""
        return self.num_frames

    def embed(self, clip: Tensor) -> Tensor:
        """Pooled features of the frames: (B, 3, T, H, W), normalised, to (B, T, D).

        Raises:
            ValueError: the clip's shape is not the one the model was built for.
        """
        check_clip(clip, num_frames=self.num_frames, img_size=self.img_size)
        features = self.backbone(images_for(rearrange(clip, "b c t h w -> (b t) c h w")))
        return rearrange(features, "(b t) d -> b t d", t=self.num_frames)

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """The features of the frames as the only stage; the work was done by `embed`."""
        return EncoderOutput(stages=[tokens], steps=[tokens.shape[1]], summary=tokens)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory, where the backbone can."""
        self.backbone.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """What timm exempts (position embeddings, class tokens)."""
        exempt = getattr(self.backbone, "no_weight_decay", set)()
        there = {name for name, _ in self.backbone.named_parameters()}
        return {_STEM + name for name in exempt if name in there}

    def layer_groups(self) -> list[list[str]]:
        """Parameter names by depth as timm groups them, then the head."""
        from timm.models import group_parameters

        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=False))
        by_depth = [[_STEM + name for name in groups[depth]] for depth in sorted(groups)]
        inside = {name for names in by_depth for name in names}
        return [*by_depth, [name for name, _ in self.named_parameters() if name not in inside]]

    def own_names(self, entries: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Entries of a plain timm or torchvision file under this model's names, without a
        classifier's, and the names left out; entries of this class unchanged.
        """
        inside = set(self.backbone.state_dict())
        if any(name.startswith(_STEM) for name in entries) or not inside & set(entries):
            return dict(entries), []
        kept = without_classifier(self.backbone, entries)
        left_out = [name for name in entries if name not in kept]
        return {_STEM + name: value for name, value in kept.items()}, left_out

    def resized(self, name: str, values: Tensor, source: Mapping | None = None) -> Tensor | None:
        """Position embeddings of another frame size, interpolated; None: cannot."""
        if name != _STEM + "pos_embed" or not hasattr(self.backbone, "num_prefix_tokens"):
            return None
        from timm.layers import resample_abs_pos_embed

        grid = list(self.backbone.patch_embed.grid_size)
        extra = values.shape[1] - math.isqrt(values.shape[1]) ** 2
        found = resample_abs_pos_embed(values, new_size=grid, num_prefix_tokens=extra)
        return found if found.shape == self.backbone.pos_embed.shape else None


class ImageClassifier(Classifier, ImageEncoder):
    """Fine-tuning model of an image backbone; features are the backbone's own, not normed again."""

    def make_norm(self) -> nn.Module:
        """None: timm's backbones end in what their classifiers expect."""
        return nn.Identity()

    def initialise(self) -> None:
        """Nothing: timm initialises its models."""

    def layer_groups(self) -> list[list[str]]:
        """See `ImageEncoder.layer_groups`."""
        return ImageEncoder.layer_groups(self)


def images_for(images: Tensor) -> Tensor:
    """Images (B, C, H, W) in the order of memory that suits convolutions on their device."""
    return images.contiguous(memory_format=torch.channels_last) if images.is_cuda else images


def feature_dim(backbone: nn.Module) -> int:
    """Width of what a timm backbone without classifier returns."""
    # VGG and its like have layers between pooling and classifier
    return getattr(backbone, "head_hidden_size", None) or backbone.num_features


def without_classifier(backbone: nn.Module, entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries of a timm or torchvision file, by its names, but those of the classifier."""
    stated = backbone.pretrained_cfg.get("classifier") or ("fc", "head", "classifier")
    heads = tuple(f"{name}." for name in ([stated] if isinstance(stated, str) else stated))
    inside = backbone.state_dict()
    return {k: v for k, v in entries.items() if k in inside or not k.startswith(heads)}


def timm_name(name: str) -> str | None:
    """The timm backbone that a model name stands for: "timm/NAME", or NAME itself; else None."""
    import timm

    bare = name.removeprefix(IMAGE_PREFIX)
    architecture = bare.split(".")[0]
    if not timm.is_model(architecture):
        return None
    entry = timm.model_entrypoint(architecture)
    return bare if entry.__module__.startswith("timm.") else None


def default_image_config(backbone: str) -> dict:
    """Options of an image model that do not depend on the stage, with their defaults."""
    import timm

    known = timm.get_pretrained_cfg(backbone)
    return {
        "img_size": known.input_size[-1] if known else 224,
        "num_frames": 1,
        "drop_path_rate": 0.0,
    }
