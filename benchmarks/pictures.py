# SPDX-License-Identifier: Apache-2.0
"""Line and bar charts as SVG that reads well on light and dark pages. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 52
COLOURS = ("#2f6fde", "#d9480f", "#2b8a3e", "#862e9c", "#a37000", "#0b7285")
TINY = 1e-9
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-size:15px;font-weight:600}"
    ".grid{stroke:#8886;stroke-width:1}.axis{stroke:#888;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name and its points."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from values to pixels; `ticks` are the values that are named."""

    label: str
    place: Callable[[float], float]
    ticks: Sequence[float]


def axis(label: str, values: Iterable[float], start: float, end: float, log: bool = False) -> Axis:
    """The scale that holds all values. A linear one starts at 0; a logarithmic one at a power of ten.

    ValueError for no values, or for one that is not above 0 on a logarithmic scale.
    """
    known = list(values)
    if not known:
        raise ValueError(f"{label}: no values")
    if log:
        if min(known) <= 0:
            raise ValueError(f"{label}: a logarithm of {min(known)}")
        low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
        high = max(high, low + 1)
        return Axis(
            label,
            lambda value: start + (math.log10(value) - low) / (high - low) * (end - start),
            [10.0**power for power in range(low, high + 1)],
        )
    step = _step(max(known))
    top = max(step, math.ceil(max(known) / step - 1e-9) * step)
    ticks = [step * number for number in range(round(top / step) + 1)]
    return Axis(label, lambda value: start + value / top * (end - start), ticks)


def _step(top: float) -> float:
    """A round distance that cuts [0, top] into four to eight; next to nothing is nothing."""
    if top < TINY:
        return 1.0
    raw = top / 5
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)


def lines(
    title: str,
    description: str,
    series: Sequence[Series],
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """A chart of lines. `description` is for readers who cannot see it."""
    points = [point for one in series for point in one.points]
    across = axis(x, [at for at, _ in points], LEFT, WIDTH - RIGHT, log_x)
    up = axis(y, [value for _, value in points], HEIGHT - BOTTOM, TOP, log_y)
    parts = [*_frame(up), *_across(across)]
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        placed = [(across.place(at), up.place(value)) for at, value in one.points]
        path = " ".join(f"{at:.1f},{value:.1f}" for at, value in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{at:.1f}" cy="{value:.1f}" r="3" fill="{colour}"/>' for at, value in placed]
    return _document(title, description, parts + _legend([one.name for one in series]))


def bars(
    title: str,
    description: str,
    groups: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    y: str,
    log_y: bool = False,
) -> str:
    """Bars side by side: each group has one for each name; its label may have two lines. A logarithmic scale
    begins at its lowest tick."""
    up = axis(y, [value for _, values in groups for value in values], HEIGHT - BOTTOM, TOP, log_y)
    floor = HEIGHT - BOTTOM
    space = (WIDTH - LEFT - RIGHT) / len(groups)
    width = min(space * 0.8 / len(names), 48)
    parts = _frame(up)
    for number, (label, values) in enumerate(groups):
        middle = LEFT + space * (number + 0.5)
        for place, value in enumerate(values):
            left = middle + (place - len(values) / 2) * width
            top = up.place(value)
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width - 3:.1f}" height="{floor - top:.1f}"'
                f' rx="2" fill="{COLOURS[place % len(COLOURS)]}"/>'
            )
            parts.append(_text(left + width / 2 - 1.5, top - 5, short(value), "middle"))
        for line, words in enumerate(label.splitlines()):
            parts.append(_text(middle, floor + 18 + 16 * line, words, "middle"))
    return _document(title, description, parts + _legend(names))


def short(value: float) -> str:
    """A number in few characters: three digits at most, thousands as k."""
    if value >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _frame(up: Axis) -> list[str]:
    parts = []
    for tick in up.ticks:
        at = up.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT - 8, at + 4, short(tick), "end"))
    floor = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    return [*parts, _text(LEFT - 8, TOP - 12, up.label, "end")]


def _across(across: Axis) -> list[str]:
    floor = HEIGHT - BOTTOM
    parts = [_text(across.place(tick), floor + 18, short(tick), "middle") for tick in across.ticks]
    return [*parts, _text((LEFT + WIDTH - RIGHT) / 2, floor + 38, across.label, "middle")]


def _legend(names: Sequence[str]) -> list[str]:
    parts, at = [], float(WIDTH - RIGHT)
    for number, name in reversed(list(enumerate(names))):
        at -= 7.0 * len(name) + 28
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{at:.1f}" y="{TOP - 22}" width="10" height="10" rx="2" fill="{colour}"/>')
        parts.append(_text(at + 15, TOP - 13, name, "start"))
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _document(title: str, description: str, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(description)}</desc>\n<style>{STYLE}</style>\n"
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"
