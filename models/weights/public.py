"""Catalogue of the public weights of other video models, by what they are called on the Hub.

None of these files was tried: names, layouts and licences are those that their pages and the code
that wrote them state. Clips have 224 px where nothing else is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_NOT_COMMERCIAL = "CC BY-NC 4.0: for non-commercial use only"
_APACHE = "Apache-2.0"
NOT_STATED = "not stated, ask those who published them"


@dataclass(frozen=True, kw_only=True)
class PublicWeights:
    """One file of public weights."""

    name: str  # what the commands call it
    source: str  # where `models.weights.hub` finds it
    about: str  # model, what it was trained on, what for
    licence: str  # in words
    # what the file cannot tell, as `models.open_weights` takes it
    told: Mapping[str, object] = field(default_factory=dict)

    @property
    def compared(self) -> bool:
        """Whether a leader board has it by default: an encoder that saw no labels of faces."""
        return "on its test part" not in self.about


def _entry(name: str, source: str, about: str, licence: str, **told: object) -> PublicWeights:
    source = f"hf://{source}"
    return PublicWeights(name=name, source=source, about=about, licence=licence, told=told)


def _videomae() -> list[PublicWeights]:
    hub = "MCG-NJU/videomae-"
    found = [
        _entry(f"videomae-{size}", hub + size, f"VideoMAE, ViT {size}, pre-trained on Kinetics-400",
               _NOT_COMMERCIAL)
        for size in ("base", "base-short", "large")
    ]  # fmt: skip
    found += [
        _entry(f"videomae-{size}-k400", f"{hub}{size}-finetuned-kinetics",
               f"VideoMAE, ViT {size}, fine-tuned on Kinetics-400", _NOT_COMMERCIAL)
        for size in ("small", "base", "large", "huge")
    ]  # fmt: skip
    found += [
        _entry(f"videomae2-{size.lower()}", f"OpenGVLab/VideoMAEv2-{size}",
               f"VideoMAE V2, ViT {size.lower()}, encoder alone", _NOT_COMMERCIAL)
        for size in ("Base", "Large", "giant")
    ]  # fmt: skip
    return found + [
        _entry(f"videomae2-{size}-k710",
               f"OpenGVLab/VideoMAE2/distill/vit_{size[0]}_k710_dl_from_giant.pth",
               f"VideoMAE V2, ViT {size}, distilled from giant, Kinetics-710", _APACHE)
        for size in ("small", "base")
    ]  # fmt: skip


def _mira() -> list[PublicWeights]:
    """Files cannot tell flashLite from exact; the folders' names do."""
    hub = "ysrinria/MiRA/"
    found = [
        _entry("mira-base-exact-voxceleb2", hub + "pretrained_models/BASE",
               "MiRA base, pre-trained on VoxCeleb2", _APACHE, use_fmp_flashlite=False)
    ]  # fmt: skip
    for size in ("base", "large", "huge"):
        places = {"voxceleb2": ("pretrained_models", "pre-trained on VoxCeleb2", "_FlashLite")}
        for data, fold in (("DFEW", "/fold1"), ("MAFW", "/fold1"), ("FERV39k", "")):
            about = f"fine-tuned on {data}{fold}, chosen on its test part"
            places[data.lower() + fold.replace("/", "-")] = (
                f"finetuned_models/{data}{fold}", about, "flash"
            )  # fmt: skip
        found += [
            _entry(f"mira-{size}-{data}", f"{hub}{folder}/{size.upper()}{ending}",
                   f"MiRA {size} (flashLite), {about}", _APACHE, use_fmp_flashlite=True)
            for data, (folder, about, ending) in places.items()
        ]  # fmt: skip
    return found


_OTHERS = [
    _entry("s4d-base", "cyinen/S4D/vit_base_voxceleb2+affectnet_100.pt",
           "S4D, ViT base, pre-trained on VoxCeleb2 and AffectNet, 160 px", NOT_STATED),
    *(
        _entry(f"marlin-{size}", f"ControlNet/marlin_vit_{size}_ytf",
               f"MARLIN {size}, pre-trained on YouTube Faces", _NOT_COMMERCIAL)
        for size in ("small", "base", "large")
    ),
    _entry("vjepa2-large", "facebook/vjepa2-vitl-fpc64-256",
           "V-JEPA 2, ViT large, 256 px, here on 16 frames", "MIT", num_frames=16),
]  # fmt: skip
PUBLIC = {one.name: one for one in (*_videomae(), *_mira(), *_OTHERS)}
