"""Building blocks shared by all encoders and the decoder.

Attention has a bias for queries and values and none for keys, and keeps the released parameter
names (`q_bias`, `v_bias`, `qkv.weight` or `q.weight` and `kv.weight`).
"""

import contextlib

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

_CUDNN = SDPBackend.CUDNN_ATTENTION
_OTHER_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_chosen_kernels = contextlib.ExitStack()

_CHUNK_SAMPLES = 2
_HAS_AMX = getattr(torch.cpu, "_is_amx_tile_supported", bool)()


def attention(query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor | None = None) -> Tensor:
    """Softmax attention; the one place that chooses its kernel.

    `scaled_dot_product_attention` everywhere except in bf16 on CPU, where plain attention over a
    few samples at a time is faster: several times in the backward pass, without AMX also forward.

    On CUDA cuDNN's kernel comes first where `choose_attention_kernels` says so: on an H200 it is
    1.7 times as fast as the flash kernel, forward and backward, and as exact. It yields NaN
    gradients with an explicit attention mask (pytorch#196678) and for a single query
    (cudnn-frontend#1072), which both go elsewhere. So does evaluation that is not
    compiled: its batches differ in size, and cuDNN plans anew for every size it meets.

    Args:
        query: (B, heads, N, d).
        key: (B, heads, M, d).
        value: (B, heads, M, d).
        key_bias: (B, M), added to the logarithm of every key's weight.

    Returns:
        (B, heads, N, d).
    """
    mask = None if key_bias is None else key_bias[:, None, None].to(query.dtype)
    masked = {} if mask is None else {"attn_mask": mask}
    trains = torch.is_grad_enabled() and query.requires_grad
    on_cpu_in_bf16 = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if on_cpu_in_bf16 and (trains or not _HAS_AMX):
        return _chunked_attention(query, key, value, mask)
    fixed_shapes = trains or torch.compiler.is_compiling()
    for_cudnn = fixed_shapes and query.shape[-2] > 1 and mask is None
    if query.device.type == "cuda" and not for_cudnn:
        with sdpa_kernel(_OTHER_KERNELS):
            return F.scaled_dot_product_attention(query, key, value, **masked)
    return F.scaled_dot_product_attention(query, key, value, **masked)


def _chunked_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    scale, mixed = query.shape[-1] ** -0.5, []
    for i in range(0, len(query), _CHUNK_SAMPLES):
        q, k, v = (x[i : i + _CHUNK_SAMPLES] for x in (query, key, value))
        scores = (q * scale) @ k.transpose(-2, -1)
        if mask is not None:
            scores = scores + mask[i : i + _CHUNK_SAMPLES]
        mixed.append(scores.softmax(-1) @ v)
    return torch.cat(mixed)


def choose_attention_kernels(*, cudnn: bool) -> None:
    """Choose for this process what `attention` may use on CUDA, to be called before it compiles.

    Compiled graphs keep the kernel they were made with.

    Args:
        cudnn: whether cuDNN's kernel is used where it can be, before all others; False: never.
    """
    _chosen_kernels.close()
    order = [_CUDNN, *_OTHER_KERNELS] if cudnn else _OTHER_KERNELS
    _chosen_kernels.enter_context(sdpa_kernel(order, set_priority=True))


class SelfAttention(nn.Module):
    """Multi-head self-attention, (B, N, D) -> (B, N, D)."""

    def __init__(self, *, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Let every token attend to all tokens of its row."""
        return self.join(attention(*self.split(tokens)))

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the heads, (B, heads, N, d) each."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        return self.by_head(F.linear(tokens, self.qkv.weight, bias))

    def by_head(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, 3*D) to three of (B, heads, N, d)."""
        heads = rearrange(qkv, "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.num_heads)
        return heads.unbind(0)

    def join(self, mixed: Tensor) -> Tensor:
        """Project what the heads found, (B, heads, N, d), to (B, N, D)."""
        return self.proj(rearrange(mixed, "b h n d -> b n (h d)"))


class CrossAttention(nn.Module):
    """Multi-head attention of (B, N, D) queries to (B, M, D) context tokens."""

    def __init__(self, *, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Let every token attend to all context tokens of its row; (B, N, D)."""
        kv_bias = torch.cat((torch.zeros_like(self.v_bias), self.v_bias))
        query = F.linear(tokens, self.q.weight, self.q_bias)
        key_value = F.linear(context, self.kv.weight, kv_bias)
        query = rearrange(query, "b n (h d) -> b h n d", h=self.num_heads)
        heads = rearrange(key_value, "b m (kv h d) -> kv b h m d", kv=2, h=self.num_heads)
        mixed = attention(query, *heads.unbind(0))
        return self.proj(rearrange(mixed, "b h n d -> b n (h d)"))


class LayerNorm(nn.LayerNorm):
    """Layer normalisation of the last axis, with the epsilon of the released code.

    With `in_half` it answers in the type of its input. Autocast does so by itself on a CPU; on CUDA
    it has a copy of the input made in float32 and one of the result in the half type, which is what
    the next layer takes and costs an eager step more than the norm. Statistics are float32 anyway.
    """

    in_half = False

    def __init__(self, dim: int):
        super().__init__(dim, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise (..., dim)."""
        # compiled code makes no copies, so there the weights can stay in float32
        if not self.in_half or tokens.dtype == torch.float32 or torch.compiler.is_compiling():
            return super().forward(tokens)
        weight, bias = self.weight.to(tokens.dtype), self.bias.to(tokens.dtype)
        with torch.autocast(tokens.device.type, enabled=False):
            return F.layer_norm(tokens, self.normalized_shape, weight, bias, self.eps)


def set_norm_epsilon(model: nn.Module, epsilon: float, last: float | None) -> None:
    """Set the epsilon of all norms of a model; `last` that of the norm before head or pixels."""
    for name, layer in model.named_modules():
        if isinstance(layer, LayerNorm):
            before_output = name.endswith(("fc_norm", "decoder.norm"))
            layer.eps = last if before_output and last is not None else epsilon


def keep_norms_in_half(model: nn.Module, enable: bool) -> None:
    """Set `in_half` of all norms of a model."""
    for layer in model.modules():
        if isinstance(layer, LayerNorm):
            layer.in_half = enable


class Mlp(nn.Module):
    """Two linear layers with GELU between them, on the last axis."""

    def __init__(self, *, dim: int, hidden_dim: int, out_dim: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., dim) to (..., out_dim)."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a sample's residual branch with probability `rate`."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def draw(self, residual: Tensor) -> Tensor | None:
        """Draw a factor per sample of (B, ...), 0 or 1 / (1 - rate); None: nothing to do."""
        if self.rate == 0.0 or not self.training:
            return None
        shape = (residual.shape[0],) + (1,) * (residual.dim() - 1)
        return residual.new_empty(shape).bernoulli_(1.0 - self.rate) / (1.0 - self.rate)

    def forward(self, residual: Tensor) -> Tensor:
        """Zero some samples of (B, ...) and scale the others so that the mean stays."""
        return scaled(residual, self.draw(residual))

    def extra_repr(self) -> str:
        """Show the rate when the model is printed."""
        return f"rate={self.rate:.3f}"


def scaled(residual: Tensor, factor: Tensor | None) -> Tensor:
    """Multiply by a factor of `DropPath.draw`."""
    return residual if factor is None else residual * factor


class Block(nn.Module):
    """Pre-norm Transformer block: self-attention, then MLP, each with a residual."""

    def __init__(self, *, dim: int, num_heads: int, mlp_ratio: float, drop_path_rate: float = 0.0):
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = SelfAttention(dim=dim, num_heads=num_heads)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim=dim, hidden_dim=int(dim * mlp_ratio + 1e-6))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform (B, N, D) tokens."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class CrossSelfBlock(Block):
    """Cross-attention to context tokens, then a `Block` (SVFAP Eq. 6 and 8)."""

    def __init__(self, *, dim: int, num_heads: int, mlp_ratio: float, drop_path_rate: float = 0.0):
        super().__init__(
            dim=dim, num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path_rate=drop_path_rate
        )
        self.cross_norm1 = LayerNorm(dim)
        self.cross_norm2 = LayerNorm(dim)
        self.cross_attn = CrossAttention(dim=dim, num_heads=num_heads)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Transform (B, N, D) tokens, given (B, M, D) context."""
        crossed = self.cross_attn(self.cross_norm1(tokens), self.cross_norm2(context))
        return super().forward(tokens + self.drop_path(crossed))


def run_block(block: nn.Module, *tensors: Tensor, recompute: bool):
    """Call a block; with `recompute` its activations are computed again in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, *tensors, use_reentrant=False)
    return block(*tensors)


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic depth rates of `depth` blocks, rising linearly from 0 to `rate`."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def init_linear_and_norm(module: nn.Module) -> None:
    """Initialise all linear and normalisation layers below a module (Xavier, ones and zeros).

    Convolutions (tubelet embedding, temporal downsampling) keep torch's own initialisation, as in
    the released code; q_bias and v_bias are created as zeros.

    Deviation: the released fine-tuning models start from normal weights of standard deviation
    0.02, which matters only without pre-trained weights: narrow models then hardly start to learn.

    Args:
        module: a model whose parameters are changed in place.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
