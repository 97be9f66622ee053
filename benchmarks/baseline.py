"""What our speed is compared with: the models and data path in plain eager PyTorch.

Written the way the released recipes do it: float32 blocks with explicit softmax attention, a 3-D
convolution over all tubelets, boolean indexing by the mask, targets of the whole clip, AdamW as
PyTorch gives it; PIL and decord for data, float32 batches normalised in the loader. The models
take our state dictionaries and give our outputs, which a test checks, so only speed differs.
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from svfap.datasets.augment.transforms import IMAGENET_MEAN, IMAGENET_STD
from svfap.datasets.clips.sampling import draw_pretrain_clip, draw_train_clip

RANDAUGMENT = "rand-m7-n4-mstd0.5-inc1"


class Attention(nn.Module):
    """Multi-head attention with everything written out; context None: self-attention."""

    def __init__(self, dim: int, num_heads: int, *, cross: bool):
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        if cross:
            self.q, self.kv = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        else:
            self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, N, D) and (B, M, D) -> (B, N, D)."""
        if context is None:
            query, key, value = F.linear(tokens, self.qkv.weight).chunk(3, dim=-1)
        else:
            query, (key, value) = self.q(tokens), self.kv(context).chunk(2, dim=-1)
        query, value = query + self.q_bias, value + self.v_bias
        query, key, value = (
            x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value)
        )
        weights = (query * self.scale @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self, dim: int, hidden: int, out: int):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., dim) -> (..., out)."""
        return self.fc2(self.act(self.fc1(tokens)))


class Block(nn.Module):
    """Transformer block; `cross` puts attention to context tokens in front."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, *, cross: bool = False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, cross=False)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dim)
        if cross:
            self.cross_norm1 = nn.LayerNorm(dim, eps=1e-6)
            self.cross_norm2 = nn.LayerNorm(dim, eps=1e-6)
            self.cross_attn = Attention(dim, num_heads, cross=True)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Transform (B, N, D) tokens, given (B, M, D) context."""
        if context is not None:
            tokens = tokens + self.cross_attn(self.cross_norm1(tokens), self.cross_norm2(context))
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class PatchEmbed(nn.Module):
    """3-D convolution over the whole clip."""

    def __init__(self, dim: int, tubelet: tuple[int, int, int]):
        super().__init__()
        self.proj = nn.Conv3d(3, dim, kernel_size=tubelet, stride=tubelet)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, N, D)."""
        return self.proj(clip).flatten(2).transpose(1, 2)


class BottleneckScores(nn.Module):
    """Norm and MLP that weigh the tokens of a time step."""

    def __init__(self, dim: int, num_tokens: int):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(dim, eps=1e-6), Mlp(dim, 128, num_tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, K, D)."""
        weights = self.mlp(self.norm(tokens)).softmax(dim=2)
        return torch.einsum("btsk,btsd->btkd", weights, tokens)


class Encoder(nn.Module):
    """TPSBT, and with a single stage the plain ViT."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        dim = ours.embed_dim
        self.steps = ours.grid[0]
        self.depths = list(getattr(ours, "stage_depths", [len(ours.blocks)]))
        self.kernel = getattr(ours, "temporal_kernel_size", 1)
        self.patch_embed = PatchEmbed(dim, ours.tubelet)
        self.register_buffer("position_table", ours.position_table.clone(), persistent=False)
        size = (dim, ours.num_heads, ours.mlp_ratio)
        cross = [stage > 0 for stage, depth in enumerate(self.depths) for _ in range(depth)]
        self.blocks = nn.ModuleList(Block(*size, cross=is_cross) for is_cross in cross)
        self.temporal_downsamples = nn.ModuleList(
            nn.Conv1d(dim, dim, self.kernel, stride=self.kernel) for _ in self.depths[1:]
        )
        self.spatial_downsamples = nn.ModuleList(
            BottleneckScores(dim, k) for k in getattr(ours, "num_bottleneck_tokens", [])
        )

    def stages(self, clip: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Outputs of the stages; masked tokens are dropped after all were embedded."""
        tokens = self.patch_embed(clip) + self.position_table
        if mask is not None:
            tokens = tokens[~mask].reshape(len(clip), -1, tokens.shape[-1])
        outputs, steps, first = [], self.steps, 0
        for stage, depth in enumerate(self.depths):
            blocks = self.blocks[first : first + depth]
            first += depth
            if stage == 0:
                for block in blocks:
                    tokens = block(tokens)
            else:
                tokens = self._later(stage - 1, blocks, tokens, steps)
                steps //= self.kernel
            outputs.append(tokens)
        return outputs

    def _later(self, stage: int, blocks: nn.ModuleList, tokens: Tensor, steps: int) -> Tensor:
        by_place = tokens.unflatten(1, (steps, -1)).permute(0, 2, 3, 1)  # (B, s, D, t)
        count, places = by_place.shape[:2]
        merged = self.temporal_downsamples[stage](by_place.flatten(0, 1))
        merged = merged.unflatten(0, (count, places)).permute(0, 3, 1, 2)  # (B, t, s, D)
        bottleneck = self.spatial_downsamples[stage](merged).flatten(1, 2)
        merged = merged.flatten(1, 2)
        for block in blocks[:-1]:
            bottleneck = block(bottleneck, merged)
        return blocks[-1](merged, bottleneck)


class PlainClassifier(Encoder):
    """Fine-tuning model with the outputs of ours."""

    def __init__(self, ours: nn.Module):
        super().__init__(ours)
        self.fc_norm = nn.LayerNorm(ours.embed_dim, eps=1e-6)
        self.head = nn.Linear(ours.embed_dim, ours.num_classes)
        self.load_state_dict(ours.state_dict())

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, num_classes)."""
        return self.head(self.fc_norm(self.stages(clip)[-1].mean(1)))


class Decoder(nn.Module):
    """Blocks, norm and head over all tokens."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        dim = ours.head.in_features
        heads = ours.blocks[0].attn.num_heads if len(ours.blocks) else 1
        ratio = ours.blocks[0].mlp.fc1.out_features / dim if len(ours.blocks) else 4
        self.blocks = nn.ModuleList(Block(dim, heads, ratio) for _ in ours.blocks)
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, ours.head.out_features)

    def forward(self, tokens: Tensor, num_masked: int) -> Tensor:
        """(B, N, dim) -> (B, M, P)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, -num_masked:]))


class PlainAutoencoder(nn.Module):
    """Pre-training model with the outputs of ours."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.encoder = Encoder(ours.encoder)
        self.encoder.norm = nn.LayerNorm(ours.embed_dim, eps=1e-6)
        self.decoder = Decoder(ours.decoder)
        dim = self.decoder.head.in_features
        self.encoder_to_decoder = nn.Linear(ours.embed_dim, dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        table = ours.decoder_position_table.clone()
        self.register_buffer("positions", table, persistent=False)
        self.load_state_dict(ours.state_dict())

    def forward(self, clip: Tensor, mask: Tensor) -> Tensor:
        """Predict the masked tubelets, (B, M, P)."""
        stages, steps = self.encoder.stages(clip, mask), self.encoder.steps
        fused = stages[0]
        for number, stage in enumerate(stages[1:], 1):
            repeats = self.encoder.kernel**number
            by_step = stage.unflatten(1, (steps // repeats, -1))
            fused = fused + by_step.repeat_interleave(repeats, dim=1).flatten(1, 2)
        visible = self.encoder_to_decoder(self.encoder.norm(fused))
        positions = self.positions.expand(len(clip), -1, -1)
        shown = positions[~mask].reshape(len(clip), -1, positions.shape[-1])
        hidden = positions[mask].reshape(len(clip), -1, positions.shape[-1])
        tokens = torch.cat([visible + shown, self.mask_token + hidden], dim=1)
        return self.decoder(tokens, hidden.shape[1])


def pretraining_loss(model: nn.Module, clip: Tensor, mask: Tensor, tubelet: tuple) -> Tensor:
    """Loss on a normalised float clip; targets are made for all tubelets, then selected."""
    with torch.no_grad():
        mean = torch.tensor(IMAGENET_MEAN, device=clip.device).view(1, 3, 1, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=clip.device).view(1, 3, 1, 1, 1)
        pixels = clip * std + mean
        frames, height, width = tubelet
        split = pixels.unfold(2, frames, frames).unfold(3, height, height).unfold(4, width, width)
        values = split.permute(0, 2, 3, 4, 5, 6, 7, 1).flatten(1, 3).flatten(2, 4)  # (B, N, p, C)
        spread = values.var(dim=-2, unbiased=True, keepdim=True).sqrt() + 1e-6
        values = (values - values.mean(dim=-2, keepdim=True)) / spread
        targets = values.flatten(2)[mask].reshape(len(clip), -1, values.shape[2] * 3)
    return F.mse_loss(model(clip, mask), targets)


def pretraining_clip(path: str, rng: np.random.Generator, size: int, window: tuple) -> dict:
    """Decode with decord, crop and resize with PIL, normalise: float32 (3, T, H, W)."""
    import cv2  # noqa: F401 - before decord
    import decord

    video = decord.VideoReader(path, num_threads=1)
    frames = video.get_batch(draw_pretrain_clip(rng, len(video), 16, 4)).asnumpy()
    top, left, height, width = window
    images = [Image.fromarray(f).crop((left, top, left + width, top + height)) for f in frames]
    sides = [int(min(height, width) * scale) for scale in (1, 0.875, 0.75, 0.66)]
    place = int(rng.integers(len(sides)))
    side, other = sides[place], sides[min(place + int(rng.integers(2)), len(sides) - 1)]
    x, y = int(rng.integers(width - other + 1)), int(rng.integers(height - side + 1))
    images = [
        image.crop((x, y, x + other, y + side)).resize((size, size), Image.BILINEAR)
        for image in images
    ]
    return {"clip": _normalised(images)}


def finetuning_clip(paths: list[str], rng: np.random.Generator, size: int) -> dict:
    """Open images with PIL, RandAugment and resize them, crop, flip, erase: float32 clip."""
    indices = draw_train_clip(rng, len(paths), 16, 4)
    images = [Image.open(paths[index]).convert("RGB") for index in indices]
    images = [image.resize((size, size), Image.BILINEAR) for image in images]
    clip = _normalised(_randaugment(images, rng))
    area = size * size * rng.uniform(0.08, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    height = min(size, round(np.sqrt(area * aspect)))
    width = min(size, round(np.sqrt(area / aspect)))
    top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
    clip = clip[:, :, top : top + height, left : left + width].transpose(0, 1)
    clip = F.interpolate(clip, (size, size), mode="bilinear", align_corners=False).transpose(0, 1)
    if rng.random() < 0.5:
        clip = clip.flip(-1)
    if rng.random() < 0.25:
        side = size // 3
        clip[:, :, :side, :side] = torch.randn(3, clip.shape[1], side, side)
    return {"clip": clip.contiguous()}


def _randaugment(images: list, rng: np.random.Generator) -> list:
    """RandAugment of timm, the same draws for every frame."""
    from timm.data.auto_augment import rand_augment_transform

    options = {"translate_const": 117, "img_mean": (124, 116, 104)}
    augment = rand_augment_transform(RANDAUGMENT, options)
    seed = int(rng.integers(2**31))
    for place in rng.integers(len(augment.ops), size=augment.num_layers):
        changed = []
        for image in images:
            random.seed(seed + int(place))
            changed.append(augment.ops[place](image))
        images = changed
    return images


def _normalised(images: list) -> Tensor:
    stacked = np.concatenate([np.asarray(image) for image in images], axis=2)  # (H, W, 3T)
    clip = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)
    clip = clip.view(len(images), 3, *clip.shape[1:]).transpose(0, 1)
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((clip - mean) / std).contiguous()
