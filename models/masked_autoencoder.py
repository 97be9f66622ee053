"""Pre-training: any encoder on the visible tokens, and a light decoder (SVFAP Sec. 3.1.4)."""

import torch
from torch import Tensor, nn

from svfap.models.encoder import Encoder, EncoderOutput, check_heads, check_positive, layer_groups
from svfap.models.layers import Block, LayerNorm, init_linear_and_norm, run_block
from svfap.models.patches import Triple, split_mask


def fuse_stages(output: EncoderOutput) -> Tensor:
    """Sum of all stages at full temporal resolution, X1 + up(X2) + up(X3) (SVFAP Eq. 9-10).

    Later stages are up-sampled in time by nearest neighbour.

    Args:
        output: the encoder's stages; the first has V tokens.

    Returns:
        (B, V, D).
    """
    fused = output.stages[0]
    for stage, steps in zip(output.stages[1:], output.steps[1:]):
        by_step = stage.unflatten(1, (steps, -1)).unsqueeze(2)  # (B, t_i, 1, s, D)
        repeats = output.steps[0] // steps
        fused = fused + by_step.expand(-1, -1, repeats, -1, -1).flatten(1, 3)
    return fused


class Decoder(nn.Module):
    """Transformer blocks over visible and mask tokens; predicts the pixels of the latter.

    Args:
        mlp_ratio: MLP width in units of `dim`.
        num_values: P, values per tubelet.
    """

    def __init__(self, *, dim: int, depth: int, num_heads: int, mlp_ratio: float, num_values: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim=dim, num_heads=num_heads, mlp_ratio=mlp_ratio) for _ in range(depth)
        )
        self.norm = LayerNorm(dim)
        self.head = nn.Linear(dim, num_values)
        self.grad_checkpointing = False

    def forward(self, tokens: Tensor, num_masked: int) -> Tensor:
        """Map (B, N, dim), mask tokens last, to their values (B, M, P)."""
        for block in self.blocks:
            tokens = run_block(block, tokens, recompute=self.grad_checkpointing)
        return self.head(self.norm(tokens[:, tokens.shape[1] - num_masked :]))


class MaskedAutoencoder(nn.Module):
    """Predicts the pixels of masked tubelets from the visible ones.

    Args:
        encoder: any `Encoder`; gets the norm that follows the fusion as `encoder.norm`.
        decoder_depth: blocks of the decoder; 0 leaves norm and head only.

    Raises:
        ValueError: a decoder size is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        decoder_embed_dim: int,
        decoder_depth: int,
        decoder_num_heads: int,
    ):
        super().__init__()
        check_positive(decoder_embed_dim=decoder_embed_dim, decoder_num_heads=decoder_num_heads)
        check_heads(decoder_embed_dim, decoder_num_heads, prefix="decoder_")
        if isinstance(decoder_depth, bool) or not isinstance(decoder_depth, int):
            raise ValueError(f"decoder_depth must be a whole number; got {decoder_depth!r}.")
        if decoder_depth < 0:
            raise ValueError(f"decoder_depth must be 0 or more; got {decoder_depth}.")
        frames, height, width = encoder.tubelet
        self.encoder = encoder
        self.encoder.norm = LayerNorm(encoder.embed_dim)
        self.encoder_to_decoder = nn.Linear(encoder.embed_dim, decoder_embed_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dim))
        self.decoder = Decoder(
            dim=decoder_embed_dim,
            depth=decoder_depth,
            num_heads=decoder_num_heads,
            mlp_ratio=encoder.mlp_ratio,
            num_values=3 * frames * height * width,
        )
        table = encoder.positions(decoder_embed_dim)
        self.register_buffer("decoder_position_table", table, persistent=encoder.positions_in_file)
        init_linear_and_norm(self)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(
        self,
        clip: Tensor,
        mask: Tensor,
        *,
        num_visible: int | None = None,
        predicted: Tensor | None = None,
    ) -> Tensor:
        """Reconstruct the masked tubelets.

        Args:
            clip: (B, 3, T, H, W), normalised.
            mask: (B, N) bool, True = hidden, the same number in each row.
            num_visible: visible tokens per row; if given, the mask is trusted and nothing
                synchronises with the host. If None it is counted and the mask is checked.
            predicted: (B, M') int64 indices of masked tokens; the decoder sees and predicts only
                these (a change of the published recipe). None: all masked tokens.

        Returns:
            (B, M, P): the predicted values of the masked tokens, in token order; values ordered
            frame, row, column, colour.

        Raises:
            ValueError: clip or mask do not fit the model (counts only if num_visible is None).
        """
        if num_visible is None:
            self.encoder.check_mask(mask)
        visible, masked = split_mask(mask, num_visible)
        masked = masked if predicted is None else predicted
        return self.decode(self.encode(clip, visible), visible, masked)

    def encode(self, clip: Tensor, visible: Tensor | None = None) -> Tensor:
        """Encode the visible tubelets and fuse the stages.

        Args:
            clip: (B, 3, T, H, W), normalised.
            visible: (B, V) int64 indices in token order; None: all.

        Returns:
            (B, V, D), normalised.
        """
        output = self.encoder.encode(self.encoder.embed(clip, visible), visible)
        return self.encoder.norm(fuse_stages(output))

    def decode(self, tokens: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Predict the masked tubelets from encoded visible tokens.

        Args:
            tokens: (B, V, D).
            visible: (B, V) int64 indices of these tokens.
            masked: (B, M) int64 indices of the tokens to predict.

        Returns:
            (B, M, P).
        """
        shown = self.encoder_to_decoder(tokens)
        table = self.decoder_position_table.to(shown.dtype)
        shown = shown + table[visible]
        hidden = self.mask_token.to(shown.dtype) + table[masked]
        return self.decoder(torch.cat((shown, hidden), dim=1), num_masked=masked.shape[1])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block's activations in the backward pass."""
        self.encoder.set_grad_checkpointing(enable)
        self.decoder.grad_checkpointing = enable

    def layer_groups(self) -> list[list[str]]:
        """Parameter names by depth: patch embedding, each encoder block, then everything else."""
        names = ["patch_embed", *self.encoder.block_names()]
        return layer_groups(self, [f"encoder.{name}" for name in names])

    def no_weight_decay(self) -> set[str]:
        """Names of parameters, beyond 1-D ones and biases, that get no weight decay."""
        return {"mask_token", *(f"encoder.{name}" for name in self.encoder.no_weight_decay())}

    @property
    def embed_dim(self) -> int:
        """Width of the encoder."""
        return self.encoder.embed_dim

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.encoder.num_frames

    @property
    def img_size(self) -> int:
        """Height and width of a frame in pixels."""
        return self.encoder.img_size

    @property
    def tubelet(self) -> Triple:
        """Size of a tubelet: (frames, height_px, width_px)."""
        return self.encoder.tubelet

    @property
    def grid(self) -> Triple:
        """Size of the token grid: (t, h, w)."""
        return self.encoder.grid

    @property
    def num_tokens(self) -> int:
        """Tokens of a whole clip, N."""
        return self.encoder.num_tokens
