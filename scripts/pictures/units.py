"""docs/units.svg: in which units values are stored while a BatchNorm vanishes, or cannot."""

from __future__ import annotations

from pictures.drawing import Arrow, Box, Kind, Words, svg

__all__ = ["units"]

WIDTH, HEIGHT, GAP, LEFT, ROW = 104.0, 34.0, 96.0, 30.0, 126.0
PINNED = "(1, 0)"
# A title, the operators from left to right, what each arrow's value is stored as, and what follows.
CHAINS: tuple[tuple[str, tuple[tuple[str, Kind, str], ...], tuple[str, ...], str], ...] = (
    (
        "Behind a layer: the layer writes its output as what the BatchNorm made of it",
        (("Conv", "takes", "W' = s W, b' = s b + t"), ("BatchNorm", "norm", "y = s x + t"), ("GELU", "plain", "pins")),
        (PINNED, "(s, t / s)", PINNED, PINNED),
        "s, t / s on its input and (1, 0) on its output: the BatchNorm has nothing left to do, and goes.",
    ),
    (
        "In front of a layer: the layer reads what stands before the BatchNorm",
        (("GELU", "plain", "pins"), ("BatchNorm", "norm", "y = s x + t"), ("Linear", "takes", "W' = W s, b' = b + W t")),  # noqa: E501
        (PINNED, PINNED, "(1 / s, -t)", PINNED),
        "Its output is stored as its input: (y - t) / s = x.",
    ),
    (
        "On a stream: units are the same for all who write and read it",
        (
            ("Linear", "takes", "writes"), ("Add", "plain", "equal a, d adds"), ("BatchNorm", "norm", "y = s x + t"),
            ("ReLU", "plain", "a > 0, d = 0"), ("Linear", "takes", "reads"),
        ),
        (PINNED, "(s, d1)", "(s, d1 + d2)", "(1, 0)", "(1, 0)", PINNED),
        "One BatchNorm on a stream can choose; a second one that asks for other units stays.",
    ),
    (
        "Between a ReLU and a padded convolution nothing can move",
        (("ReLU", "plain", "d = 0"), ("BatchNorm", "stays", "s 0 = 0 + t ?"), ("Conv, zeros padded", "plain", "d = 0")),
        (PINNED, "(a, 0)", "(a', 0)", PINNED),
        "Offsets must be 0 on both sides, so it vanishes only if t = 0: it stays, and the ledger says why.",
    ),
)  # fmt: skip


def units() -> str:
    """The picture, as SVG."""
    parts: list[Box | Arrow | Words] = []
    width = 0.0
    for row, (title, operators, stored, follows) in enumerate(CHAINS):
        top = 26 + ROW * row
        y = top + 44
        parts += [Words(12, top, title, "head")]
        x = LEFT
        for (word, kind, under), unit in zip(operators, stored, strict=False):
            parts.append(Arrow((x, y), (x + GAP, y), unit))
            x += GAP
            wide = WIDTH + (34 if len(word) > 12 else 0)
            parts.append(Box(x + wide / 2, y, wide, HEIGHT, word, kind, under))
            x += wide
        parts.append(Arrow((x, y), (x + GAP, y), stored[-1]))
        parts.append(Words(12, y + 50, follows, "small"))
        width = max(width, x + GAP + 12)
    says = "; ".join(f"{title}: {follows}" for title, _, _, follows in CHAINS)
    return svg(parts, (width, 26 + ROW * len(CHAINS) - 10), title="Units of values, as (a, d)", says=says)
