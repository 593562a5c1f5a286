"""Who has its turn when."""

from __future__ import annotations

import pytest

from bise_daemon.fleet.change import Action
from bise_daemon.fleet.rollout import place, plan

DEVICES = "labels: {ring: [canary, wide]}\ndefaults: {bundle: /b}\n"


@pytest.mark.parametrize(("name", "at"), [("van-0001", 60.95), ("van-0002", 78.88), ("kiosk-0001", 77.57), ("a", 22.5)])
def test_a_devices_place_is_the_same_for_ever(name: str, at: float) -> None:
    assert place(name) == at


def test_places_are_spread_evenly() -> None:
    places = sorted(place(f"van-{number:04}") for number in range(10_000))
    assert all(abs(here - number / 100) < 1.5 for number, here in enumerate(places))


def test_a_device_is_in_the_first_ring_that_takes_it(fleet) -> None:
    names = [f"d{number}" for number in range(40)]
    devices = "".join(f"  {name}: {{labels: {{ring: {'canary' if name == 'd7' else 'wide'}}}}}\n" for name in names)
    rings = "[{name: canary, match: {ring: canary}}, {name: some, percent: 25}, {name: most, percent: 60}]"
    planned = plan(fleet(f"{DEVICES}devices:\n{devices}rollout: {{rings: {rings}}}\n"))

    taken = {ring.name: [turn.device.name for turn in turns] for ring, turns in planned.rings}
    assert taken == {
        "canary": ["d7"],
        "some": [name for name in names if place(name) < 25 and name != "d7"],
        "most": [name for name in names if 25 <= place(name) < 60 and name != "d7"],
    }
    assert [turn.device.name for turn in planned.held] == [n for n in names if place(n) >= 60 and n != "d7"]


def test_each_device_does_what_its_changes_need(fleet) -> None:
    def devices(**config: str) -> str:
        return "devices:\n" + "".join(f"  {name}: {{config: {{bundle: /b, {c}}}}}\n" for name, c in config.items())

    old = fleet(devices(same="slots: 1", live="drain_timeout_s: 1", fixed="slots: 1", gone=""))
    new = fleet(devices(same="slots: 1", live="drain_timeout_s: 2", fixed="slots: 2", fresh=""))
    planned = plan(new, old)

    ((_, turns),) = planned.rings
    assert {turn.device.name: turn.action for turn in turns} == {
        "same": Action.NONE,
        "live": Action.RELOAD,
        "fixed": Action.RESTART,
        "fresh": Action.INSTALL,
    }
    assert planned.gone == ["gone"]
    assert {turn.action for _, turns in plan(new).rings for turn in turns} == {Action.INSTALL}
