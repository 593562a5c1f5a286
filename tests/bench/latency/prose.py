"""Deterministic text that reads like what people send: no two parts alike, as many words as asked for."""

from __future__ import annotations

import random

_SUBJECTS = (
    "the night operator", "a visiting inspector", "our supplier in Graz", "the second pump", "every new trainee",
    "the harbour office", "a delivery robot", "the cooling loop", "their legal team", "the spare controller",
    "a retired teacher", "the weather service", "the left conveyor", "one of the drivers", "the archive clerk",
)  # fmt: skip
_VERBS = (
    "reported", "checked", "replaced", "measured", "ordered", "forgot", "described", "moved", "cleaned", "approved",
    "postponed", "translated", "counted", "photographed", "repaired",
)  # fmt: skip
_OBJECTS = (
    "the torque sensor", "a crate of bearings", "the quarterly figures", "two of the valves", "the updated schedule",
    "an unsigned invoice", "the backup generator", "a map of the tunnels", "the oldest firmware", "six meters of cable",
    "the complaint from Lyon", "a broken thermostat", "the visitor list", "some unused licences", "the brake fluid",
)  # fmt: skip
_ENDINGS = (
    "before the shift ended", "although nobody had asked", "because the alarm kept ringing", "and wrote it down twice",
    "while it was raining", "without telling the others", "as the manual demands", "at a cost of {} francs",
    "on day {} of the trial", "after waiting {} minutes", "for the {}th time this year", "in room {}", "near gate {}",
)  # fmt: skip


def prose(key: str, words: int) -> str:
    """At least `words` words, always the same for the same key."""
    draw = random.Random(key)
    sentences: list[str] = []
    count = 0
    while count < words:
        ending = draw.choice(_ENDINGS).format(draw.randrange(2, 900))
        sentence = f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_OBJECTS)} {ending}."
        sentences.append(sentence[0].upper() + sentence[1:])
        count += sentence.count(" ") + 1
    return " ".join(sentences)
