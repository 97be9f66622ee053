"""Draw TPSBT, the encoder of SVFAP (Sec. 3.1.3, Eq. 4-10): `python docs/figures/draw_tpsbt.py`.

Writes tpsbt.png and tpsbt.svg beside this file.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

INK = "#222222"
STAGE = "#cfe3f5"  # joint attention and whole stages
DOWN = "#f6d9a8"  # temporal convolution
BOTTLENECK = "#0072b2"
TOKENS = "#d9d9d9"
HIDDEN = "#ffffff"
PRETRAIN = "#d5ecdf"
FINETUNE = "#f3d5e4"


def box(axes, x, y, width, height, text, *, colour, size=9.5):
    """Rounded box around (x, y), its centre; returns it for arrows."""
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=colour,
        edgecolor=INK,
        linewidth=1,
    )
    axes.add_patch(patch)
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=INK, linespacing=1.35)
    return patch


def arrow(axes, start, end, *, style="-|>", bend=0.0, colour=INK, dashed=False):
    """Arrow between two points."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            mutation_scale=11,
            linewidth=1.2,
            color=colour,
            connectionstyle=f"arc3,rad={bend}",
            linestyle="--" if dashed else "-",
            shrinkA=0,
            shrinkB=0,
        )
    )


def path(axes, points, *, colour=INK, dashed=False):
    """Straight segments, the last with a head."""
    line = {"color": colour, "linewidth": 1.2, "linestyle": "--" if dashed else "-"}
    for (x0, y0), (x1, y1) in zip(points[:-2], points[1:-1], strict=True):
        axes.plot([x0, x1], [y0, y1], solid_capstyle="round", **line)
    arrow(axes, points[-2], points[-1], colour=colour, dashed=dashed)


def tokens(axes, x, y, *, steps, rows, hidden=frozenset(), colour=TOKENS, cell=0.17):
    """Grid of tokens centred on (x, y): a column per time step; `hidden` rows are white."""
    for step in range(steps):
        for row in range(rows):
            left = x + (step - steps / 2) * cell * 1.15
            low = y + (row - rows / 2) * cell * 1.15
            axes.add_patch(
                Rectangle(
                    (left, low),
                    cell,
                    cell,
                    linewidth=0.6,
                    edgecolor=INK,
                    facecolor=HIDDEN if row in hidden else colour,
                )
            )


def draw_overview(axes):
    """Upper half: the three stages and what pre-training and fine-tuning take from them."""
    y = 7.55
    axes.text(
        0.15,
        9.15,
        "TPSBT: temporal pyramid and spatial bottleneck Transformer",
        fontsize=12.5,
        fontweight="bold",
        color=INK,
    )
    tokens(axes, 1.05, y, steps=8, rows=6, hidden={0, 2, 3, 5}, cell=0.15)
    axes.text(
        1.05,
        y - 0.95,
        "visible tubelets (grey),\nt = 8 time steps,\nembedded + position",
        ha="center",
        va="center",
        fontsize=8.5,
        color=INK,
    )
    box(axes, 3.65, y, 1.9, 1.1, "stage 1\n$M_1$ ViT blocks", colour=STAGE)
    box(axes, 5.65, y, 1.15, 1.1, "temporal\nconv,\n$k = s = 2$", colour=DOWN, size=8.5)
    box(axes, 7.75, y, 2.0, 1.1, "stage 2\n$M_2$ bottleneck\nblocks", colour=STAGE)
    box(axes, 9.85, y, 1.15, 1.1, "temporal\nconv,\n$k = s = 2$", colour=DOWN, size=8.5)
    box(axes, 11.95, y, 2.0, 1.1, "stage 3\n$M_3$ bottleneck\nblocks", colour=STAGE)
    for x0, x1 in ((1.85, 2.7), (4.6, 5.07), (6.22, 6.75), (8.75, 9.27), (10.42, 10.95)):
        arrow(axes, (x0, y), (x1, y))
    for x, text in ((3.65, "t = 8"), (7.75, "t = 4"), (11.95, "t = 2")):
        axes.text(x, y + 0.72, text, ha="center", fontsize=9, color=INK)
    fuse = (6.75, 5.55)
    axes.text(
        *fuse,
        "+",
        ha="center",
        va="center",
        fontsize=13,
        color=INK,
        zorder=3,
        bbox={"boxstyle": "circle,pad=0.25", "facecolor": PRETRAIN, "edgecolor": INK},
    )
    path(axes, [(4.85, y), (4.85, fuse[1]), (fuse[0] - 0.28, fuse[1])])
    path(axes, [(9.0, y), (9.0, 6.3), (fuse[0], 6.3), (fuse[0], fuse[1] + 0.28)])
    path(axes, [(12.95, y), (13.3, y), (13.3, fuse[1]), (fuse[0] + 0.28, fuse[1])])
    for x, text in ((4.95, "$X_1$"), (9.1, "$X_2$"), (13.4, "$X_3$")):
        axes.text(x, 6.55, text, fontsize=10, color=INK)
    axes.text(7.9, 6.42, "each step x 2", ha="center", fontsize=8.5, color=INK)
    axes.text(10.2, fuse[1] + 0.12, "each step x 4", ha="center", fontsize=8.5, color=INK)
    box(
        axes,
        3.0,
        4.75,
        4.4,
        0.62,
        "pre-training: LayerNorm, decoder, hidden tubelets",
        colour=PRETRAIN,
        size=9,
    )
    path(axes, [(fuse[0], fuse[1] - 0.28), (fuse[0], 4.75), (5.2, 4.75)])
    box(
        axes,
        11.6,
        4.75,
        4.4,
        0.62,
        "fine-tuning: mean over tokens, LayerNorm, head",
        colour=FINETUNE,
        size=9,
    )
    path(axes, [(13.3, fuse[1]), (13.3, 5.06)])


def draw_stage(axes):
    """Lower half: inside stages 2 and 3."""
    axes.add_patch(
        Rectangle(
            (0.1, 0.1),
            13.7,
            4.0,
            facecolor="#f7fafd",
            edgecolor="#9aa7b3",
            linewidth=0.9,
            zorder=-1,
        )
    )
    axes.text(0.3, 3.72, "inside stages 2 and 3", fontsize=11, fontweight="bold", color=INK)
    y = 1.95
    tokens(axes, 1.15, y, steps=4, rows=7)
    axes.text(
        1.15,
        y - 1.12,
        "Z: output of the\ntemporal conv,\nt x s tokens",
        ha="center",
        va="center",
        fontsize=8.5,
        color=INK,
    )
    box(
        axes,
        3.35,
        y,
        1.75,
        1.55,
        "spatial attention\nper time step:\nD \u2192 128 \u2192 K,\nsoftmax over s,\nweighted sums",
        colour=STAGE,
        size=8.5,
    )
    tokens(axes, 5.3, y, steps=4, rows=3, colour=BOTTLENECK)
    axes.text(
        5.3,
        y - 0.72,
        "K bottleneck\ntokens per step",
        ha="center",
        va="center",
        fontsize=8.5,
        color=INK,
    )
    box(
        axes,
        7.5,
        y,
        2.2,
        1.55,
        "bottleneck block\ncross-attention to Z\nself-attention\nMLP",
        colour=STAGE,
        size=9,
    )
    axes.text(7.5, y - 1.02, "x ($M$ - 1)", ha="center", fontsize=9.5, color=INK)
    box(
        axes,
        10.6,
        y,
        2.45,
        1.55,
        "reverse block\ncross-attention to bottleneck\nself-attention, all t x s\nMLP",
        colour=STAGE,
        size=8.5,
    )
    tokens(axes, 12.95, y, steps=4, rows=7)
    axes.text(
        12.95, y - 1.12, "X: t x s tokens\nagain", ha="center", va="center", fontsize=8.5, color=INK
    )
    for x0, x1 in ((1.6, 2.47), (4.23, 4.83), (5.75, 6.4)):
        arrow(axes, (x0, y), (x1, y))
    arrow(axes, (11.83, y), (12.5, y))
    arrow(axes, (8.6, y), (9.37, y), colour=BOTTLENECK)
    axes.text(8.98, y + 0.12, "key,\nvalue", ha="center", fontsize=8, color=BOTTLENECK)
    top = 3.4
    axes.plot([1.15, 1.15, 10.6], [y + 0.75, top, top], color=INK, linewidth=1.2)
    arrow(axes, (7.5, top), (7.5, y + 0.78))
    arrow(axes, (10.6, top), (10.6, y + 0.78))
    axes.text(7.6, 2.98, "key, value", fontsize=8, color=INK)
    axes.text(10.7, 2.98, "query", fontsize=8, color=INK)
    axes.text(6.08, y + 0.12, "query", ha="center", fontsize=8, color=BOTTLENECK)


def main():
    """Write the figure."""
    figure = Figure(figsize=(11.2, 7.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 14), ylim=(0, 9.5))
    axes.set_axis_off()
    draw_overview(axes)
    draw_stage(axes)
    target = Path(__file__).resolve().parent / "tpsbt"
    figure.savefig(target.with_suffix(".png"), dpi=110, facecolor="white")
    figure.savefig(target.with_suffix(".svg"), facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
