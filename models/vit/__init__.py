"""Vision Transformers over all visible tokens at once: VideoMAE's, and those that change a part."""

from svfap.models.vit.experts import S4D, S4DClassifier
from svfap.models.vit.hicmae import HiCMAE, HiCMAEClassifier
from svfap.models.vit.marlin import MARLIN, MARLINClassifier
from svfap.models.vit.mira import MiRA, MiRAClassifier
from svfap.models.vit.vit import ViT, ViTClassifier
from svfap.models.vit.vjepa2 import VJEPA2, VJEPA2Classifier

__all__ = [
    "MARLIN",
    "S4D",
    "VJEPA2",
    "HiCMAE",
    "HiCMAEClassifier",
    "MARLINClassifier",
    "MiRA",
    "MiRAClassifier",
    "S4DClassifier",
    "VJEPA2Classifier",
    "ViT",
    "ViTClassifier",
]
