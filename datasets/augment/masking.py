"""Which tubelets of a clip are hidden in pre-training (SVFAP Sec. 3.1.1, MAE-DFER Sec. 3.2).

Letters: N tokens = t*h*w. A masking is drawn as a boolean array (N,), time-major, True = hidden,
and always hides the same number of tokens in every time step, so that the visible ones form a
rectangle (t, visible per step) as TPSBT needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

SYMMETRIES = (None, "global", "local")


@dataclass(frozen=True, kw_only=True)
class Masking:
    """A kind of mask with its counts fixed; calling it draws one mask."""

    kind: str  # name, as given to `--mask_type`
    grid: tuple[int, int, int]  # (t, h, w) tokens
    num_masked: int  # hidden tokens of a clip
    # (h, w) tokens; the blocks of this size that a time step is cut into always show equally many
    # tokens, in every step
    window: tuple[int, int]
    draw: Callable[[np.random.Generator], np.ndarray]

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip, t*h*w."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def num_visible(self) -> int:
        """Visible tokens of a clip."""
        return self.num_tokens - self.num_masked

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a mask.

        Returns:
            (N,) bool, True = hidden, time-major.
        """
        return self.draw(rng).reshape(self.num_tokens)

    @staticmethod
    def part_of(mask: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        """Draw a share (0 < share <= 1) of a mask's hidden tokens: (M',) int64, in token order."""
        hidden = np.flatnonzero(mask)
        count = max(1, round(share * len(hidden)))
        return np.sort(rng.permutation(hidden)[:count])

    def __str__(self) -> str:
        return f"{self.kind} masking: {self.num_masked} of {self.num_tokens} tokens hidden"


def make_masking(
    kind: str,
    grid: Sequence[int],
    ratio: float,
    *,
    part_win_size: Sequence[int] | None = None,
    symmetry: str | None = None,
) -> Masking:
    """Masking of a kind.

    - "tube": one spatial pattern for all time steps.
    - "random": a new pattern in every time step, equally many tokens in each.
      Deviation: VideoMAE's random masking draws over the whole clip at once, which leaves steps
      with different counts; TPSBT cannot use those.
    - "part_window": a tube drawn in every spatial window by itself, so that each window (and with
      it each region of the LGI-Former) keeps the same number of visible tokens.

    The number hidden is `int(ratio * tokens)` per step ("tube", "random") or per window, as in the
    released code.

    Args:
        kind: "tube", "random" or "part_window".
        grid: (t, h, w) tokens.
        ratio: share of the tokens to hide, 0..1, both ends excluded.
        part_win_size: "part_window" only and needed there: (t, h, w) tokens of a window; each must
            divide the grid (the mask is the same for all steps whatever t is).
        symmetry: "part_window" only: None, or visible tokens in one half (left or right) of the
            face only, the half drawn once for all windows ("global") or for each ("local"). The
            windows must be as wide as the grid.

    Raises:
        ValueError: an unknown kind, a ratio that hides nothing or everything, windows that do not
            fit the grid, options of another kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"unknown mask type {kind!r}; known: {', '.join(sorted(_KINDS))}")
    if len(grid) != 3 or min(grid) < 1:
        raise ValueError(f"token grid {tuple(grid)!r} must be three positive numbers (t, h, w)")
    if kind != "part_window" and (part_win_size is not None or symmetry is not None):
        raise ValueError(
            f"part_win_size {part_win_size!r} and symmetry {symmetry!r} belong to mask type "
            f"'part_window' only; leave them out for {kind!r} or choose 'part_window'"
        )
    options = {} if kind != "part_window" else {"window": part_win_size, "symmetry": symmetry}
    return _KINDS[kind](tuple(int(n) for n in grid), ratio, **options)


def _num_hidden(ratio: float, num_tokens: int, where: str) -> int:
    """Tokens to hide among `num_tokens` ones, rounded down as the released code does."""
    hidden = int(ratio * num_tokens)
    if not (0 < ratio < 1 and 0 < hidden < num_tokens):
        raise ValueError(
            f"mask ratio {ratio} hides {hidden} of the {num_tokens} tokens {where}; it must hide "
            f"at least 1 and leave at least 1 visible: choose {1 / num_tokens:.4g} <= ratio < 1"
        )
    return hidden


def _permuted_rows(rng: np.random.Generator, rows: int, num_tokens: int, hidden: int) -> np.ndarray:
    """(rows, num_tokens) bool, each row with `hidden` True in an order of its own."""
    row = np.arange(num_tokens) < hidden
    return rng.permuted(np.broadcast_to(row, (rows, num_tokens)), axis=1)


def _tube(grid: tuple[int, int, int], ratio: float) -> Masking:
    t, h, w = grid
    hidden = _num_hidden(ratio, h * w, "of a time step")

    draw = partial(_draw_tube, steps=t, num_tokens=h * w, hidden=hidden)
    return Masking(kind="tube", grid=grid, num_masked=t * hidden, window=(h, w), draw=draw)


def _draw_tube(rng: np.random.Generator, *, steps: int, num_tokens: int, hidden: int) -> np.ndarray:
    return np.tile(_permuted_rows(rng, 1, num_tokens, hidden), (steps, 1))  # (t, h*w)


def _random(grid: tuple[int, int, int], ratio: float) -> Masking:
    t, h, w = grid
    hidden = _num_hidden(ratio, h * w, "of a time step")
    draw = partial(_permuted_rows, rows=t, num_tokens=h * w, hidden=hidden)
    return Masking(kind="random", grid=grid, num_masked=t * hidden, window=(h, w), draw=draw)


def _part_window(
    grid: tuple[int, int, int],
    ratio: float,
    *,
    window: Sequence[int] | None,
    symmetry: str | None,
) -> Masking:
    window = _check_window(grid, window, symmetry)
    t, h, w = grid
    _, window_h, window_w = window
    rows, columns = h // window_h, w // window_w
    hidden = _num_hidden(ratio, window_h * window_w, "of a window")
    drawn_w = window_w if symmetry is None else window_w // 2
    visible = window_h * window_w - hidden
    if visible > window_h * drawn_w:
        raise ValueError(
            f"mask ratio {ratio} leaves {visible} tokens visible in each window, but one half of "
            f"it (symmetry {symmetry!r}) holds {window_h * drawn_w}: choose a ratio of at least 0.5"
        )

    size = (window_h, window_w)
    draw = partial(_draw_part_window, grid=grid, window=size, visible=visible, symmetry=symmetry)
    num_masked = t * rows * columns * hidden
    return Masking(kind="part_window", grid=grid, num_masked=num_masked, window=size, draw=draw)


def _draw_part_window(
    rng: np.random.Generator,
    *,
    grid: tuple[int, int, int],
    window: tuple[int, int],
    visible: int,
    symmetry: str | None,
) -> np.ndarray:
    """One tube with `visible` tokens in every window: (t, h*w)."""
    (t, h, w), (window_h, window_w) = grid, window
    rows, columns = h // window_h, w // window_w
    drawn_w = window_w if symmetry is None else window_w // 2
    num_drawn = window_h * drawn_w
    parts = _permuted_rows(rng, rows * columns, num_drawn, num_drawn - visible)
    parts = parts.reshape(rows * columns, window_h, drawn_w)
    if symmetry is not None:
        parts = _one_half_only(rng, parts, same_side=symmetry == "global")
    parts = parts.reshape(rows, columns, window_h, window_w).transpose(0, 2, 1, 3)
    return np.tile(parts.reshape(1, h * w), (t, 1))


def _one_half_only(rng: np.random.Generator, halves: np.ndarray, *, same_side: bool) -> np.ndarray:
    """Put each window's half (n, h, w/2) to the left or right, all True beside it: (n, h, w)."""
    num_windows = len(halves)
    right = rng.random(1 if same_side else num_windows) < 0.5
    right = np.broadcast_to(right, num_windows)[:, None, None]
    return np.concatenate([halves | right, halves | ~right], axis=2)


def _check_window(
    grid: tuple[int, int, int], window: Sequence[int] | None, symmetry: str | None
) -> tuple[int, int, int]:
    """The window, checked against the grid and the symmetry."""
    if symmetry not in SYMMETRIES:
        raise ValueError(f"unknown symmetry {symmetry!r}; known: None, 'global', 'local'")
    if window is None or len(window) != 3 or min(window) < 1:
        raise ValueError(
            f"mask type 'part_window' needs part_win_size as three positive numbers (t, h, w), "
            f"got {window!r}; the published one is 2 5 10 for a grid of 8 10 10"
        )
    window = tuple(int(n) for n in window)
    if any(g % n for g, n in zip(grid, window)):
        raise ValueError(
            f"part_win_size {window} does not divide the token grid {grid}: "
            "choose divisors of the grid's t, h and w"
        )
    if symmetry is not None and (window[2] != grid[2] or window[2] % 2):
        raise ValueError(
            f"symmetry {symmetry!r} hides one half of the face, so windows must be as wide as the "
            f"grid and of even width; part_win_size is {window}, the grid {grid}: "
            f"set its last number to {grid[2]}" + (" and use an even grid" if grid[2] % 2 else "")
        )
    return window


_KINDS: dict[str, Callable[..., Masking]] = {
    "tube": _tube,
    "random": _random,
    "part_window": _part_window,
}
