"""Attentive probe: a learnt query reads the tokens of a frozen encoder, a linear layer answers.

Attention can find what a mean over tokens drowns: an expression that shows in a few of them. Tokens
are those of the last stage, before pooling; they are computed once and kept in memory.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svfap.engine.results.tokens import BATCH, Tokens

DECAYS = (0.01, 0.3, 3.0)  # weight decay of AdamW, of which one is chosen
PEAK_LR = 3e-3
MIN_STEPS, EPOCHS = 200, 20  # whichever takes longer


class Reader(nn.Module):
    """A query, one cross-attention, a linear layer.

    Every token is standardised over the training videos at its own place, by (V, D) mean and
    deviation, which takes away where it is; keys therefore get learnt positions.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, num_outputs: int):
        super().__init__()
        num_tokens, dim = mean.shape
        self.register_buffer("mean", mean.float())
        floor = 1e-3 * deviation.mean() + 1e-6  # of what hardly varies, noise would be left
        self.register_buffer("scale", (1 / (deviation + floor)).float())
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(num_tokens, dim))
        heads = next(count for count in (8, 4, 2, 1) if dim % count == 0)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.head = nn.Linear(dim, num_outputs)
        nn.init.trunc_normal_(self.query, std=0.02)
        nn.init.normal_(self.positions, std=1.0)  # as loud as the tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, V, D) tokens to (B, num_outputs)."""
        values = (tokens.float() - self.mean) * self.scale
        query = self.query.expand(len(values), -1, -1)
        read, _ = self.attention(query, values + self.positions, values, need_weights=False)
        return self.head(read[:, 0])


def attentive_probe(
    train: Tokens,
    labels: np.ndarray,
    test: Tokens,
    held_out: np.ndarray | None,
    *,
    num_outputs: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, float]:
    """Train on the tokens of one part, answer for those of another.

    Args:
        labels: (n,) their classes or (n, L) numbers.
        held_out: (n,) bool, training videos that choose the weight decay; None: the middle one.

    Returns:
        (videos, num_outputs) probabilities or numbers, and the weight decay chosen.
    """
    order = train.video.numpy()
    targets = torch.as_tensor(labels[order])
    everyone = np.arange(len(order))
    fit = _Fit(train, targets, num_outputs, seed, torch.device(device))
    decay = DECAYS[1]
    if held_out is not None:
        left_out = everyone[held_out[order]]
        losses = [
            fit.loss(fit(everyone[~held_out[order]], candidate), left_out) for candidate in DECAYS
        ]
        decay = DECAYS[int(np.argmin(losses))]
    scores = fit.scores(fit(everyone, decay), test.values)
    return test.pooled(scores), decay


class _Fit:
    """Trains readers on some of the views of a part."""

    def __init__(
        self, tokens: Tokens, targets: Tensor, num_outputs: int, seed: int, device: torch.device
    ):
        self.tokens, self.targets, self.num_outputs = tokens, targets, num_outputs
        self.seed, self.device = seed, device
        self.mean, self.deviation = tokens.statistics()
        # numbers are learnt in units of their own spread
        self.classes = targets.ndim == 1
        self.centre = 0.0 if self.classes else targets.mean(0)
        self.spread = 1.0 if self.classes else targets.std(0, correction=0) + 1e-6

    def __call__(self, rows: np.ndarray, decay: float) -> Reader:
        """A reader trained on these views."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            reader = Reader(self.mean, self.deviation, self.num_outputs).to(self.device)
        order = np.random.default_rng(self.seed)
        per_epoch = -(-len(rows) // BATCH)
        steps = max(MIN_STEPS, EPOCHS * per_epoch)
        optimizer = torch.optim.AdamW(reader.parameters(), lr=PEAK_LR, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
        for step in range(steps):
            if step % per_epoch == 0:
                batches = np.array_split(order.permutation(rows), per_epoch)
            chosen = torch.as_tensor(batches[step % per_epoch])
            self._losses(reader, chosen).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        return reader.eval()

    def _losses(self, reader: Reader, rows: Tensor) -> Tensor:
        outputs = reader(self.tokens.values[rows].to(self.device))
        targets = self.targets[rows]
        if self.classes:
            return F.cross_entropy(outputs, targets.to(self.device), reduction="none")
        wanted = ((targets - self.centre) / self.spread).float().to(self.device)
        return (outputs - wanted).square().mean(1)

    @torch.inference_mode()
    def loss(self, reader: Reader, rows: np.ndarray) -> float:
        """Mean over views that were not trained on."""
        parts = torch.as_tensor(rows).split(BATCH)
        return float(torch.cat([self._losses(reader, part) for part in parts]).mean())

    @torch.inference_mode()
    def scores(self, reader: Reader, values: Tensor) -> Tensor:
        """Probabilities, or numbers in their own units, of views (n, V, D)."""
        parts = values.split(BATCH)
        outputs = torch.cat([reader(part.to(self.device)).double().cpu() for part in parts])
        return outputs.softmax(1) if self.classes else outputs * self.spread + self.centre
