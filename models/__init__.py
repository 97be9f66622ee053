"""Encoders, masked autoencoder and classifier of SVFAP, MAE-DFER and VideoMAE; SSL-FER's models.

Letters used throughout: B batch, C colours, T H W frames and pixels, t h w token grid,
N tokens (t*h*w, time-major), V visible tokens, M masked tokens, K bottleneck tokens per time step,
D width, P values per tubelet.

The model contract. Every model of `list_models()` offers, and a contract test checks:

- `config`: dict, JSON-able; `create_model(**model.config)` builds the same model.
- `embed_dim`, `num_frames`, `img_size` (px), `tubelet` (frames, height_px, width_px), `grid`
  (t, h, w), `num_tokens`.
- `layer_groups()`: lists of parameter names, from the patch embedding to the head (with what takes
  the head's learning rate). Layer-wise decay gives group i of n the factor decay ** (n - 1 - i).
- `no_weight_decay()`: names that get none, besides 1-D parameters and biases.
- `set_grad_checkpointing(enable)`: recompute activations in the backward pass.
- Fine-tuning ("svfap_...", "maedfer_...", "videomae_..."): `model(clip)` -> (B, num_classes),
  `model.forward_features(clip)` -> (B, D), `model.reset_classifier(num_classes)`. Created with
  `keep_temporal_dim=True`: (B, T', num_classes) and (B, T', D) with T' = `model.output_steps`, and
  `model(clip, per_frame=True)` -> (B, T, num_classes).
- Pre-training ("pretrain_..."): `model(clip, mask, num_visible=None)` -> (B, M, P), predictions of
  the masked tokens in token order; `model.encode(clip, visible)` -> (B, V, D); `model.encoder`,
  whose `check_mask(mask)` says whether a mask suits it, `balanced_window` what all masks must
  balance. `mask` is a bool (B, N), True = hidden. With `num_visible` nothing synchronises with the
  host.

The same holds for what is not listed because timm has a thousand of them: "timm/NAME" is an image
backbone for clips (`models.image`), and "contrastive_" before a fine-tuning model's name an encoder
with a projection: `model(clip)` -> (B, projection_dim), `model.encoder`. Those with batch norms
have buffers in their state dicts.

`clip` is (B, 3, T, H, W), normalised. Names in state dicts are those of the released code.
"""

from importlib import import_module

from svfap import short_name
from svfap.models.timm_names import register_with_timm

# What the package offers, imported when asked for: PyTorch takes seconds.
_OFFERED = {
    "classifier": ("HEAD_SCALE", "to_frames"),
    "contrastive": ("ContrastiveModel",),
    "registry": (
        *("contrastive_name", "create_model", "default_config", "encoder_name", "is_image_model"),
        "list_models",
    ),
    "weights.guess": ("guess_config",),
    "weights.loading": ("LoadReport", "load_weights"),
    "weights.opening": ("open_weights",),
    "weights.weight_file": ("read_checkpoint",),
}
_ROOM_OF = {name: room for room, names in _OFFERED.items() for name in names}
__all__ = [*_ROOM_OF, "register_with_timm"]  # noqa: PLE0604 - names, all of them


def __getattr__(name: str):
    """What is offered under this name, or the room of that name."""
    if name in _ROOM_OF:
        return getattr(import_module(f"svfap.models.{_ROOM_OF[name]}"), name)
    room = f"svfap.models.{name}"
    try:
        return import_module(room)
    except ModuleNotFoundError as error:
        if error.name != room:
            raise
        raise AttributeError(f"module 'svfap.models' has no attribute {name!r}") from None


register_with_timm()
short_name(__name__)
