"""A fleet's file: layers come together, and all that is wrong is told at once, with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bise_daemon.config.problem import ConfigError
from bise_daemon.fleet.fleet import BOUNDS, load_fleet

EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "fleet.yaml"

LABELS = "labels:\n  region: [eu, us]\n  hardware: [orin, n100]\ndefaults: {bundle: /b}\n"


def test_the_example_is_what_its_comments_say() -> None:
    fleet = load_fleet(EXAMPLE)
    one = fleet.devices["kiosk-0002"]
    assert one.values == {
        "bundle": "/var/lib/bise/models/ministral",
        "listen": "unix:///run/bise/bise.sock",
        "slots": 2,
        "context": 4096,
        "threads": 4,
        "state_dir": "/var/lib/bise/state",
        "drain_timeout_s": 5,
    }
    assert one.config.slots == 2
    assert fleet.groups == {"ministral": 2, "n100": 3, "n100-ministral": 1}
    lines = EXAMPLE.read_text().splitlines()
    for device in fleet.devices.values():
        for key, setting in device.settings.items():
            assert lines[fleet.line(key, setting) - 1].lstrip().removeprefix("config: {").startswith(f"{key}: ")


def test_a_device_alone_is_a_fleet(fleet) -> None:
    found = fleet("devices: {a: {config: {bundle: /b}}}")
    assert found.devices["a"].config.bundle == Path("/b")
    assert [ring.name for ring in found.rings] == ["all"]


def test_names_are_texts_whatever_yaml_takes_them_for(fleet) -> None:
    found = fleet("labels: {on: ['1']}\ndefaults: {bundle: /b}\ndevices: {0017: {labels: {on: '1'}}}")
    assert found.devices["0017"].labels == {"on": "1"}


def test_all_problems_are_told_at_once_in_the_files_order(problems) -> None:
    found = problems(
        "labels:\n"
        "  region: [eu, us, no]\n"
        "  hardware: [orin, n100]\n"
        "defaults:\n"
        "  slot: 4\n"
        "  slots: 99\n"
        "  state_dir: rel\n"
        "grups: {}\n"
        "groups:\n"
        "  a:\n"
        "    match: {hardware: orn}\n"
        "    config: {step_ms: x}\n"
        "  b:\n"
        "    match: {hardware: [n100, orn], colour: red}\n"
        "    config: {slots: 4, slots: 5, threads: !!python/tuple [1]}\n"
        "  c: {match: {}, config: {}}\n"
        "  d:\n"
        "    match: {region: eu}\n"
        "    config: {max_queue: 4}\n"
        "  e:\n"
        "    match: {hardware: orin}\n"
        "    config: {max_queue: 5}\n"
        "devices:\n"
        "  d1: {labels: {region: eu, hardware: orin}}\n"
        '  "d 2": {labels: {region: eu, hardware: orin}}\n'
        "  d3: {labels: {hardwear: orin, region: eu}}\n"
        "  d4: 5\n"
        "rollout:\n"
        "  rings:\n"
        "    - {name: a, percent: 101}\n"
        "    - {nam: b}\n"
    )
    starts = [
        "2: labels.region[2]: expected labels, each with the list of values it may have, got False",
        "5: defaults.slot: expected a known key, got an unknown one. Did you mean slots?",
        "6: defaults.slots: expected a whole number of requests at once, from 1 to 64, got 99",
        "7: defaults.state_dir: expected an absolute path, got 'rel'",
        "8: grups: expected a known key, got an unknown one. Did you mean groups?",
        "11: groups.a.match.hardware: expected a value that `labels` names, got 'orn'. Did you mean orin?",
        "12: groups.a.config.step_ms: expected a number of milliseconds, from 1 to 60000, got 'x'",
        "14: groups.b.match.colour: expected a label that `labels` names, got another. There are: region, hardware.",
        "14: groups.b.match.hardware[1]: expected a value that `labels` names, got 'orn'. Did you mean orin?",
        "15: groups.b.config.slots: expected each key once, got it in line 15 too",
        "15: groups.b.config.threads: expected a plain value, got",
        "16: groups.c.match: expected labels, each with",
        "25: devices.d 2: expected a name of 1 to 63 letters",
        "26: devices.d3.labels.hardware: expected one of orin, n100, got nothing. Add the label.",
        "26: devices.d3.labels.hardwear: expected a label that `labels` names, got another. Did you mean hardware?",
        "27: devices.d4: expected 1 to 10000 devices by name",
        "30: rollout.rings[0].percent: expected the percentage",
        "31: rollout.rings[1].nam: expected a known key, got an unknown one. Did you mean name?",
        "31: rollout.rings[1].name: expected a name of 1 to 63 letters",
    ]
    texts = [text.removeprefix("fleet.yaml:") for text in found]
    assert sorted(text[:4] for text in texts) == sorted(start[:4] for start in starts), texts
    for start in starts:
        assert any(text.startswith(start) for text in texts), start


def test_what_the_daemon_does_not_take_as_a_whole_is_told_once_where_it_is_set(problems) -> None:
    found = problems(
        LABELS
        + "groups:\n  open: {match: {region: eu}, config: {listen: 'tcp://0.0.0.0:1'}}\n"
        + "devices:\n  a: {labels: {region: eu, hardware: orin}}\n  b: {labels: {region: eu, hardware: n100}}\n"
        + "  c: {labels: {region: eu, hardware: n100}, config: {allow_remote: true}}\n"
    )
    (text,) = found
    assert text.startswith("fleet.yaml:6: groups.open.config.listen: expected an address only this machine can reach")
    assert text.endswith("For a and 1 more device.")


def test_what_nobody_sets_is_told_where_it_would_be_for_all(problems) -> None:
    assert problems("defaults:\n  slots: 4\ndevices: {a: {}, b: {}, c: {config: {bundle: /b}}}") == [
        "fleet.yaml:1: defaults.bundle: expected the path of a bundle's folder (a relative one starts at the "
        "configuration file), got nothing. Add the key. For a and 1 more device."
    ]


def test_groups_that_cross_and_differ_are_a_conflict_told_once(problems) -> None:
    found = problems(
        LABELS
        + "groups:\n  eu:\n    match: {region: [eu]}\n    config: {slots: 4, max_queue: 1, step_ms: 20}\n"
        + "  orin:\n    match: {hardware: orin}\n    config: {slots: 6, max_queue: 1, step_ms: 20.0}\n"
        + "devices:\n  a: {labels: {region: eu, hardware: orin}}\n  b: {labels: {region: eu, hardware: orin}}\n"
        + "  c: {labels: {region: eu, hardware: orin}, config: {slots: 1}}\n"
    )
    assert found == [
        "fleet.yaml:11: groups.orin.config.slots: expected one value, got 6 here and 4 in line 8, and neither group is "
        "within the other. Set it in a group that matches region: eu, hardware: orin, or on the device. "
        "For a and 1 more device."
    ]


def test_a_group_that_matches_both_settles_a_conflict_wherever_it_stands(fleet) -> None:
    both = "  both: {match: {hardware: orin, region: eu}, config: {slots: 5}}\n"
    crossing = (
        "  eu: {match: {region: eu}, config: {slots: 4}}\n  orin: {match: {hardware: orin}, config: {slots: 6}}\n"
    )
    devices = "devices:\n  a: {labels: {region: eu, hardware: orin}}\n  b: {labels: {region: us, hardware: orin}}\n"
    for groups in (both + crossing, crossing + both):
        found = fleet(LABELS + "groups:\n" + groups + devices)
        assert [device.config.slots for device in found.devices.values()] == [5, 6]


@pytest.mark.parametrize(
    ("rings", "problem"),
    [
        ("[{name: a, percent: 10}, {name: a}]", "rings[1].name: expected each name once"),
        ("[{name: a, percent: 50}, {name: b, percent: 50}]", "rings[1]: expected a ring that some device can be in"),
        ("[{name: a}, {name: b, match: {region: eu}}]", "rings[1]: expected a ring that some device can be in"),
        ("[]", "rings: expected 1 to 32 rings"),
        ("[{name: a, percent: .nan}]", "rings[0].percent: expected the percentage"),
        ("[{name: a, gate: {wait: 3}}]", "rings[0].gate.wait: expected a known key, got an unknown one. Did you mean"),
    ],
)
def test_rings_that_make_no_sense_are_refused(problems, rings: str, problem: str) -> None:
    found = problems(f"{LABELS}devices: {{a: {{labels: {{region: eu, hardware: orin}}}}}}\nrollout: {{rings: {rings}}}")
    assert len(found) == 1
    assert f"rollout.{problem}" in found[0]


def test_few_problems_are_told_of_very_many(problems) -> None:
    found = problems("devices:\n" + "".join(f"  d{number}: {{x: 1}}\n" for number in range(500)))
    assert len(found) == 101
    assert found[-1] == "fleet.yaml: and 400 more problems"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a [x]\nb: *a\n", "fleet.yaml:2: expected plain values, got the alias *a"),
        ("a: " + "[" * 200, "fleet.yaml:1: expected at most 10 levels"),
        ("a: [" + "1," * (1 << 18) + "]", "fleet.yaml:1: expected at most 262144 keys and values"),
        ("#" * ((4 << 20) + 1), "fleet.yaml: expected at most 4194304 bytes"),
        ("- a", "fleet.yaml:1: expected settings"),
    ],
    ids=["bomb", "deep", "crowded", "large", "list"],
)
@pytest.mark.slow
def test_what_would_not_end_well_is_refused_at_once(problems, text: str, problem: str) -> None:
    (found,) = problems(text)
    assert found.startswith(problem)


@pytest.mark.slow
def test_the_largest_fleet_fits_its_bounds(fleet) -> None:
    head = "labels: {model: [m], region: [eu], hardware: [orin], ring: [wide]}\ndefaults: {bundle: /b}\ndevices:\n"
    line = "  vehicle-{}: {{labels: {{model: m, region: eu, hardware: orin, ring: wide}}, config: {{slots: 3}}}}\n"
    began_s = time.process_time()
    found = fleet(head + "".join(line.format(number) for number in range(10_000)))
    assert len(found.devices) == 10_000
    assert time.process_time() - began_s < 30, "this takes 2 s where nobody else runs"
    assert BOUNDS.size_bytes == 4 << 20


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fleet\.yaml: expected a file to read, got: No such file"):
        load_fleet(tmp_path / "fleet.yaml")
