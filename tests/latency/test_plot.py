"""The plot, read as XML."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

from bench.latency.plot import goodput_svg

SVG = "{http://www.w3.org/2000/svg}"
CURVES = {"bise": {0.5: 1.0, 1.0: 0.97, 2.0: 0.6}, "a & b": {0.5: 0.9, 1.0: 0.5, 2.0: 0.6}}


def parsed() -> ElementTree.Element:
    return ElementTree.fromstring(goodput_svg(CURVES, "title <1>", "note"))


def test_every_server_has_a_line_and_a_name() -> None:
    lines = parsed().findall(f"{SVG}polyline")
    assert [len(line.get("points", "").split()) for line in lines] == [3, 3]
    texts = [text.text for text in parsed().iter(f"{SVG}text")]
    assert {"bise", "a & b", "title <1>", "97%", "0.5\N{MULTIPLICATION SIGN}"} <= set(texts)


def test_higher_is_better_and_later_is_more() -> None:
    points = parsed().find(f"{SVG}polyline").get("points").split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert all(left[0] < right[0] and left[1] < right[1] for left, right in pairwise(places))


def test_names_do_not_touch() -> None:
    heights = [float(text.get("y")) for text in parsed().iter(f"{SVG}text") if text.text in CURVES]
    assert abs(heights[0] - heights[1]) >= 15


def test_a_single_load_is_a_plot_too() -> None:
    assert ElementTree.fromstring(goodput_svg({"bise": {1.0: 1.0}}, "t", "n")).find(f"{SVG}circle") is not None
