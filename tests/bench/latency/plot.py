"""The plot: goodput against offered load, as SVG text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 76, 56
# Told apart by colour-blind eyes too (Okabe and Ito's palette), and by their markers' order in the legend.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_NAME_HEIGHT, _FIGURE_HEIGHT = 17, 13

Curve = Mapping[float, float]
"""Offered load in units of capacity → share met."""


def goodput_svg(curves: Mapping[str, Curve], title: str, note: str) -> str:
    """The plot: loads evenly spaced, shares from 0 to 100 %, each curve named at its end.

    Args:
        curves: by server; each has at least one point.
    """
    loads = sorted({load for curve in curves.values() for load in curve})
    parts = [*_frame(loads, title, note)]
    names_y = _apart([_y(curve[max(curve)]) for curve in curves.values()], _NAME_HEIGHT)
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(_x(loads, load), _y(share)) for load, share in sorted(curve.items())]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points]
        parts.append(_text(_WIDTH - _RIGHT + 14, names_y[number] + 4, name, size=13, fill=colour, weight="bold"))
    for load in loads:
        parts += _figures(_x(loads, load), [curve.get(load) for curve in curves.values()])
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" role="img">'
    return "\n".join([opening, f"<title>{escape(title)}</title>", *parts, "</svg>\n"])


def _frame(loads: Sequence[float], title: str, note: str) -> Iterator[str]:
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
    yield _text(_LEFT, 24, title, size=16, weight="bold")
    yield _text(_LEFT, 42, note, size=11, fill="#555555")
    for percent in range(0, 101, 25):
        y = _y(percent / 100)
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield _text(_LEFT - 8, y + 4, f"{percent} %", anchor="end", size=11)
    for load in loads:
        yield _text(
            _x(loads, load), _HEIGHT - _BOTTOM + 26, f"{load:g}\N{MULTIPLICATION SIGN}", anchor="middle", size=11
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield _text(
        middle,
        _HEIGHT - 14,
        "offered load; 1\N{MULTIPLICATION SIGN} is what is served one at a time",
        anchor="middle",
        size=12,
    )


def _x(loads: Sequence[float], load: float) -> float:
    inset = 24
    width = _WIDTH - _LEFT - _RIGHT - 2 * inset
    return _LEFT + inset + (loads.index(load) / (len(loads) - 1) if len(loads) > 1 else 0.5) * width


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _figures(x: float, shares: Sequence[float | None]) -> Iterator[str]:
    """The shares at one load, the best above its point and the others below theirs."""
    shown = [(share, _COLOURS[number % len(_COLOURS)]) for number, share in enumerate(shares) if share is not None]
    shown.sort(reverse=True)
    places = [_y(share) + (16 if rank else -9) for rank, (share, _) in enumerate(shown)]
    for (share, colour), y in zip(shown, _apart(places, _FIGURE_HEIGHT), strict=True):
        yield _text(x, y, f"{share:.0%}", anchor="middle", size=11, fill=colour)


def _apart(places: Sequence[float], height: float) -> list[float]:
    """The places, each moved down as far as it needs not to touch the one above."""
    found = [0.0] * len(places)
    free = float("-inf")
    for number in sorted(range(len(places)), key=places.__getitem__):
        found[number] = max(places[number], free)
        free = found[number] + height
    return found


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int, fill: str = "#222222", weight: str = "normal"
) -> str:
    # With a white rim, so that lines behind it don't matter.
    rim = 'stroke="#ffffff" stroke-width="3" paint-order="stroke"'
    style = f'text-anchor="{anchor}" font-size="{size}" fill="{fill}" font-weight="{weight}" {rim}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
