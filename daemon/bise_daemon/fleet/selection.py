"""Which devices a selection of labels takes, and which of two selections is the narrower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Selection = Mapping[str, Sequence[str]]
"""For each label the values of which a device must have one; without labels, every device."""


def selects(selection: Selection, labels: Mapping[str, str]) -> bool:
    """Whether a device with these labels is taken; a label it lacks has no value."""
    return all(labels.get(label) in values for label, values in selection.items())


def within(one: Selection, other: Selection) -> bool:
    """Whether `other` takes every device that `one` takes, whatever devices there are."""
    return all(label in one and set(one[label]) <= set(values) for label, values in other.items())


def narrower(one: Selection, other: Selection) -> bool:
    """Whether `other` takes all that `one` takes, and more."""
    return within(one, other) and not within(other, one)
