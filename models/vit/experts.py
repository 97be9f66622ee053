"""S4D (UniLearn): a ViT whose later blocks have experts beside their MLP (arXiv 2409.06154)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svfap.models.classifier import Classifier
from svfap.models.encoder import check_positive
from svfap.models.layers import Block, Mlp
from svfap.models.vit.vit import ViT

QUEUES = ("clip", "batch")
_NARROWER = 4  # times the experts' inner width


class Router(nn.Module):
    """How much each token wants each expert, with noise in training; (B, N, D) -> (B, N, E)."""

    def __init__(self, *, dim: int, num_experts: int):
        super().__init__()
        self.topkroute_linear = nn.Linear(dim, num_experts)
        self.noise_linear = nn.Linear(dim, num_experts)

    def forward(self, tokens: Tensor) -> Tensor:
        """Rate all experts for all tokens."""
        wanted = self.topkroute_linear(tokens)
        if not self.training:
            return wanted
        return wanted + torch.randn_like(wanted) * F.softplus(self.noise_linear(tokens))


class Experts(nn.Module):
    """Small MLPs, of which every token asks the few that the router rates best.

    Deviation: the released code keeps the router's noise in evaluation, and an expert takes the
    first tokens of the whole batch, so that a clip's answer changes from run to run and with the
    clips beside it. Here there is no noise in evaluation, and an expert takes as many tokens of
    each clip as its share of the batch would be (`queue` "batch": as released).

    Args:
        dim: D.
        num_experts: E.
        capacity_factor: an expert takes this share of N * top_k / E tokens.
        queue: "clip" or "batch": whose first tokens these are.
    """

    def __init__(
        self, *, dim: int, num_experts: int, top_k: int, capacity_factor: float, queue: str
    ):
        super().__init__()
        self.top_k, self.capacity_factor, self.queue = top_k, capacity_factor, queue
        self.router = Router(dim=dim, num_experts=num_experts)
        self.experts = nn.ModuleList(
            Mlp(dim=dim, hidden_dim=dim // _NARROWER) for _ in range(num_experts)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D): weighted sum of what the experts say; 0 of tokens that none takes."""
        best, which = self.router(tokens).topk(self.top_k, dim=-1)
        wanted = torch.zeros_like(best[..., :1]).expand(*best.shape[:2], len(self.experts))
        gates = wanted.scatter(-1, which, best.softmax(-1))  # (B, N, E)
        asks = torch.zeros_like(gates, dtype=torch.bool).scatter(-1, which, True)
        inputs = tokens
        if self.queue == "batch":
            inputs, gates, asks = (x.flatten(0, 1)[None] for x in (tokens, gates, asks))
        share = inputs.shape[1] * self.top_k / len(self.experts)
        capacity = min(int(self.capacity_factor * share), inputs.shape[1])
        # those that ask come first, in their order
        order = (~asks).to(torch.uint8).argsort(dim=1, stable=True)[:, :capacity]
        weights = (gates * asks).gather(1, order)
        said = torch.zeros_like(inputs)
        for i, expert in enumerate(self.experts):
            place = order[:, :, i, None].expand(-1, -1, inputs.shape[2])
            answer = expert(inputs.gather(1, place)) * weights[:, :, i, None]
            said = said.scatter_add(1, place, answer.to(said.dtype))
        return said.view_as(tokens)


class ExpertBlock(Block):
    """A `Block` whose MLP has `Experts` beside it."""

    def __init__(self, block: dict, **options):
        super().__init__(**block)
        self.moe_layer = Experts(dim=block["dim"], **options)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform (B, N, D) tokens."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        normed = self.norm2(tokens)
        return tokens + self.drop_path(self.mlp(normed) + self.moe_layer(normed))


class S4D(ViT):
    """ViT (see there) with `Experts` (see there) in the blocks `expert_layers`, counted from 0.

    None stands for the second half.

    Raises:
        ValueError: a size is out of range or does not fit another one.
    """

    def __init__(
        self, *, expert_layers: Sequence[int] | None, num_experts: int, top_k: int,
        capacity_factor: float, queue: str, **sizes,
    ):  # fmt: skip
        super().__init__(**sizes)
        depth = len(self.blocks)
        layers = range(depth // 2, depth) if expert_layers is None else expert_layers
        check_positive(num_experts=num_experts, top_k=top_k)
        if top_k > num_experts or not set(layers) <= set(range(depth)):
            raise ValueError(
                f"top_k = {top_k} of {num_experts} experts in blocks {list(layers)} of {depth}: "
                "there are not as many."
            )
        if queue not in QUEUES:
            raise ValueError(f"queue is one of {', '.join(QUEUES)}; got {queue!r}.")
        self.mixes_clips = queue == "batch"
        for i in layers:
            self.blocks[i] = ExpertBlock(
                self.block_options(i), num_experts=num_experts, top_k=top_k,
                capacity_factor=capacity_factor, queue=queue,
            )  # fmt: skip


class S4DClassifier(Classifier, S4D):
    """S4D for fine-tuning: mean of all tokens, norm, head."""
