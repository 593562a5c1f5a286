"""Labels and who they select."""

from __future__ import annotations

import pytest

from bise_daemon.fleet.selection import narrower, selects, within

EU = {"region": ("eu",)}
ANY = {"region": ("eu", "us")}
EU_ORIN = {"region": ("eu",), "hardware": ("orin",)}
ORIN = {"hardware": ("orin",)}


def test_all_labels_must_match_and_a_list_is_any_of_its_values() -> None:
    assert selects(ANY, {"region": "us", "hardware": "orin"})
    assert selects({}, {})
    assert not selects(EU_ORIN, {"region": "eu", "hardware": "n100"})
    assert not selects(EU, {"hardware": "orin"})


@pytest.mark.parametrize(
    ("one", "other", "is_narrower"),
    [
        (EU, ANY, True),
        (EU_ORIN, EU, True),
        (EU_ORIN, ANY, True),
        (EU, {}, True),
        (EU, EU, False),
        (EU, ORIN, False),
        (ANY, EU, False),
        ({"region": ("us", "eu")}, ANY, False),
    ],
)
def test_the_narrower_takes_less(one, other, is_narrower: bool) -> None:
    assert narrower(one, other) is is_narrower
    assert not (narrower(one, other) and within(other, one))
