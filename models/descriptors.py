"""What eyes and mouth look like, in numbers: by which false negatives are told (SSL-FER Sec. 3.3).

A descriptor is frozen; its vectors are compared by their cosine. "hog" counts gradient orientations
and needs no weights; everything else is an image backbone of timm with weights from a file (the
paper: ResNet-18 trained on ImageNet).
"""

import math
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svfap.models.image import feature_dim, images_for, without_classifier
from svfap.models.weights.loading import named_tensors
from svfap.models.weights.weight_file import read_checkpoint
from svfap.suggest import did_you_mean

HOG = "hog"
ORIENTATIONS = 9
CELL_PX = 8
BLOCK_CELLS = 2
SHARE_OF_LIGHT = (0.299, 0.587, 0.114)


class Descriptor(nn.Module):
    """Describes both parts alike and puts the numbers side by side.

    Attributes:
        dim: D, numbers for both parts together.
    """

    def __init__(self, part: nn.Module, part_dim: int):
        super().__init__()
        self.part = part
        self.dim = 2 * part_dim
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Descriptor":
        """Stay in evaluation mode, whatever the model around it does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, eyes: Tensor, mouth: Tensor) -> Tensor:
        """Describe eyes and mouth.

        Args:
            eyes: (B, 3, 64, 64) float, [0, 1] (`datasets.faces.landmarks.eye_and_mouth`).

        Returns:
            (B, D), to be compared by cosine.
        """
        described = self.part(torch.cat([eyes, mouth]))  # (2*B, D/2)
        return torch.cat(described.chunk(2), dim=1)


class GradientOrientations(nn.Module):
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), for a batch.

    Unsigned gradients in 9 directions, shared out between the two nearest, over cells of 8 x 8
    pixels; blocks of 2 x 2 cells are brought to length 1, cut at 0.2 and brought to length 1 again.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Describe images.

        Args:
            image: (B, 3, H, W) float, [0, 1]; H and W multiples of 8.

        Returns:
            (B, (H/8 - 1) * (W/8 - 1) * 36).
        """
        colours = zip(image.float().unbind(1), SHARE_OF_LIGHT)  # no tensor from the host here
        grey = sum(colour * share for colour, share in colours)[:, None]
        padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
        across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        place = torch.atan2(down, across) % math.pi * (ORIENTATIONS / math.pi)  # 0..9
        strength = torch.hypot(across, down)
        lower = place.floor()
        upper_vote = strength * (place - lower)
        lower = lower.long() % ORIENTATIONS
        votes = strength.new_zeros(len(grey), ORIENTATIONS, *grey.shape[-2:])
        votes.scatter_(1, lower, strength - upper_vote)
        votes.scatter_(1, (lower + 1) % ORIENTATIONS, upper_vote)
        cells = F.avg_pool2d(votes, CELL_PX)
        blocks = F.unfold(cells, BLOCK_CELLS)  # (B, 36, blocks)
        blocks = blocks / (blocks.norm(dim=1, keepdim=True) + 1e-3)
        blocks = F.normalize(blocks.clamp(max=0.2), dim=1)
        return blocks.transpose(1, 2).flatten(1)


class ImageBackbone(nn.Module):
    """Pooled features of a timm backbone, for images in [0, 1]."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        facts = backbone.pretrained_cfg
        self.backbone = backbone
        self.size = facts["input_size"][-2:] if facts.get("fixed_input_size") else None
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(facts[name]).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), resized where the backbone takes one size only."""
        if self.size is not None and tuple(image.shape[-2:]) != tuple(self.size):
            image = F.interpolate(image, self.size, mode="bilinear", antialias=True)
        return self.backbone(images_for((image - self.mean) / self.std))


def create_descriptor(name: str, weights: str | Path | None = None) -> Descriptor:
    """Make the descriptor of eyes and mouth.

    Args:
        name: "hog", or an image backbone of timm ("resnet18", ...).
        weights: file of the backbone's weights (.pth or .safetensors, as timm or torchvision save
            them), read without executing anything in it.

    Returns:
        A frozen module: (eyes, mouth) (B, 3, 64, 64) each -> (B, D).

    Raises:
        ValueError: unknown name, a backbone without weights, or weights that do not fit.
        FileNotFoundError: there is no such file.
    """
    if name == HOG:
        if weights:
            raise ValueError(f"descriptor {HOG!r} has no weights; leave out {weights}")
        blocks = 64 // CELL_PX - BLOCK_CELLS + 1
        return Descriptor(GradientOrientations(), blocks**2 * BLOCK_CELLS**2 * ORIENTATIONS)
    known = timm.list_models()
    if name not in known:
        raise ValueError(
            f"descriptor {name!r}: choose {HOG!r} or an image backbone of timm"
            + (did_you_mean(name, known) or " (timm.list_models())")
        )
    if not weights:
        raise ValueError(
            f"descriptor {name!r} needs weights, an untrained network describes nothing: give a "
            "file (for ResNet-18 trained on ImageNet, that of timm or torchvision), or choose "
            f"{HOG!r}, which needs none"
        )
    backbone = timm.create_model(name, pretrained=False, num_classes=0)
    _load(backbone, Path(weights), name)
    return Descriptor(ImageBackbone(backbone), feature_dim(backbone))


def _load(backbone: nn.Module, weights: Path, name: str) -> None:
    """Set the weights of a backbone; a classifier in the file is left out."""
    entries = named_tensors(read_checkpoint(weights), str(weights))
    try:
        backbone.load_state_dict(without_classifier(backbone, entries))
    except RuntimeError as error:
        first = " ".join(str(error).split("\n")[1:3]).strip()
        raise ValueError(
            f"{weights} does not fit the backbone {name!r}: {first} Name the backbone that these "
            "weights were trained with"
        ) from error
