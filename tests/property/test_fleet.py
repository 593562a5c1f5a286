"""Layers, rings and files of fleets, whatever they are."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bise_daemon.config.layer import ConfigLayer
from bise_daemon.config.load import load_config
from bise_daemon.config.problem import ConfigError
from bise_daemon.fleet.fleet import Fleet, load_fleet
from bise_daemon.fleet.layers import Layer, settle
from bise_daemon.fleet.model import Ring
from bise_daemon.fleet.rendering import render
from bise_daemon.fleet.rollout import place, ring_of
from bise_daemon.fleet.selection import narrower, selects, within
from property.hostile import FUZZ, changed_bytes, survives

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "fleet.yaml"
SAME = settings(derandomize=True, database=None, deadline=None, max_examples=100)

VALUES = {"region": ["eu", "us"], "hardware": ["orin", "n100", "rpi"], "ring": ["canary", "wide"]}
labels = st.fixed_dictionaries({label: st.sampled_from(values) for label, values in VALUES.items()})
selections = st.fixed_dictionaries(
    {},
    optional={
        label: st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple) for label, values in VALUES.items()
    },
)
configs = st.fixed_dictionaries(
    {}, optional={key: st.integers(1, 3) for key in ("slots", "threads", "max_queue", "draft_tokens")}
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)
whole = st.fixed_dictionaries(
    {},
    optional={
        "slots": st.integers(1, 64),
        "context": st.none() | st.integers(16, 1 << 24),
        "step_ms": st.floats(1, 60_000),
        "verify": st.sampled_from(["quick", "full"]),
        "listen": st.sampled_from(["unix:///run/a b/#c.sock", "tcp://[::1]:0"]),
        "state_dir": texts.map(lambda text: f"/{text}"),
        "prefixes": st.builds(
            lambda text, answer: [
                {"name": "a", "prompt": text},
                {"name": "b", "messages": [{"role": "system", "content": answer}]},
            ],
            texts,
            texts,
        ),
    },
)


def layer(name: str, values: dict[str, Any], selection: dict[str, tuple[str, ...]] | None = None) -> Layer:
    return Layer(name, (name,), values, ConfigLayer(**values), selection or {})


@pytest.mark.slow
@SAME
@given(selections, selections, selections, labels)
def test_narrower_is_an_order_and_says_what_selecting_says(one, other, third, device) -> None:
    assert not (narrower(one, other) and narrower(other, one))
    if narrower(one, other) and narrower(other, third):
        assert narrower(one, third)
    if within(one, other) and selects(one, device):
        assert selects(other, device)


@pytest.mark.slow
@SAME
@given(configs, st.lists(st.tuples(selections, configs), max_size=6), configs, labels, st.randoms())
def test_layers_go_before_each_other_whatever_their_order(
    defaults, groups, own, device, shuffle: random.Random
) -> None:
    layers = [layer(f"g{n}", values, selection) for n, (selection, values) in enumerate(groups)]
    mine = [each for each in layers if selects(each.selection, device)]
    found, conflicts = settle(layer("defaults", defaults), mine, layer("own", own))

    again = shuffle.sample(mine, len(mine))
    found_again, conflicts_again = settle(layer("defaults", defaults), again, layer("own", own))
    in_conflict = {conflict.key for conflict in conflicts}
    assert {conflict.key for conflict in conflicts_again} == in_conflict
    for key in found:
        assert found_again.keys() == found.keys()
        if key in in_conflict:
            continue
        setting = found[key]
        assert found_again[key].value == setting.value
        assert setting.value == setting.layer.values[key]
        setters = [each for each in mine if key in each.values]
        if key in own:
            assert setting.layer.name == "own"
        elif setters:
            # Nobody narrower says anything else.
            assert not any(
                narrower(each.selection, setting.layer.selection) and each.values[key] != setting.value
                for each in setters
            )
        else:
            assert setting.layer.name == "defaults"
    for conflict in conflicts:
        assert conflict.key not in own
        one, other = conflict.one, conflict.other
        assert one.values[conflict.key] != other.values[conflict.key]
        assert not narrower(one.selection, other.selection)
        assert not narrower(other.selection, one.selection)


@pytest.mark.slow
@SAME
@given(texts, labels, st.lists(st.tuples(selections, st.floats(0, 100)), min_size=1, max_size=5), st.data())
def test_a_larger_percentage_never_removes_a_device(name, device, drawn, data) -> None:
    rings = [Ring(name=f"r{n}", match=match, percent=percent) for n, (match, percent) in enumerate(drawn)]
    raised = data.draw(st.integers(0, len(rings) - 1))
    percent = data.draw(st.floats(rings[raised].percent, 100))
    more = [*rings[:raised], rings[raised].model_copy(update={"percent": percent}), *rings[raised + 1 :]]

    def turn(order: list[Ring]) -> int:
        ring = ring_of(name, device, order)
        return len(order) if ring is None else [each.name for each in order].index(ring.name)

    assert turn(more) <= turn(rings)
    assert turn(more) in (turn(rings), raised), "only that ring takes another device"
    assert 0 <= place(name) < 100


@pytest.mark.slow
@SAME
@given(defaults=whole, group=whole, own=whole)
@example(defaults={}, group={}, own={"state_dir": "/\x85"})
@example(defaults={}, group={"state_dir": "/a\u2028b\ufeff"}, own={})
def test_what_is_rendered_is_what_the_daemon_reads(tmp_path_factory, defaults, group, own) -> None:
    folder = tmp_path_factory.mktemp("fleet")
    document = {
        "labels": {"region": ["eu"]},
        "defaults": {"bundle": "/b", **defaults},
        "groups": {"eu": {"match": {"region": "eu"}, "config": group}},
        "devices": {"a": {"labels": {"region": "eu"}, "config": own}},
    }
    fleet = written(folder / "fleet.yaml", yaml.safe_dump(document))
    device = fleet.devices["a"]
    assert device.values == {"bundle": "/b", **defaults, **group, **own}
    for origin in (False, True):
        text = render(fleet, device, origin=origin)
        (folder / "bise.yaml").write_text(text, encoding="utf-8", newline="")
        assert load_config(folder / "bise.yaml") == device.config
        assert yaml.safe_load(text) == device.values


def written(path: Path, text: str) -> Fleet:
    path.write_text(text, encoding="utf-8", newline="")
    return load_fleet(path)


WORDS = [
    b"!!python/object/apply:os.system [ls]", b"&a ", b"*a", b"<<: ", b"? ", b"- ", b"[[[[", b"{", b"}", b"|\n", b">-\n",
    b"\x00", b"\xff", b"\xe2\x80\xa8", b"\t", b"---\n", b"%YAML 9.9\n", b"null", b"~: ~", b"9" * 5000, b".nan",
    b"0x10", b"2026-99-99", b"!!set {a}", b"!!binary x", b"'", b'"\\ud800"', b"defaults:", b"rollout: []", b"groups:",
]  # fmt: skip


@pytest.mark.slow
@FUZZ
@given(content=changed_bytes(EXAMPLE.read_bytes(), words=WORDS))
def test_a_changed_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(content)
    survives(lambda: load_fleet(path), ConfigError)
