"""The scheduler that checks itself: right ones go on, wrong ones stop at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bise_daemon.scheduler.checked import CheckedScheduler
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Phase, Request
from virtual_device import LinearCosts, VirtualDevice


@pytest.fixture
def device() -> VirtualDevice:
    device = VirtualDevice(CheckedScheduler(Limits(2, 64, 128, 8), LinearCosts()))
    for name in ("first", "second", "third"):
        device.submit(Request(name, range(20), 5))
    return device


def test_it_schedules_as_the_other_does(device: VirtualDevice) -> None:
    while device.scheduler.has_work:
        device.step()
    assert not device.scheduler.running


@pytest.mark.parametrize(
    "break_it",
    [
        lambda scheduler: setattr(scheduler.running[0], "slot", 1 - scheduler.running[0].slot),
        lambda scheduler: setattr(scheduler.running[0], "phase", Phase.ENDED),
        lambda scheduler: setattr(scheduler.waiting[0], "slot", 0),
        lambda scheduler: setattr(scheduler.running[0], "id", "third"),
    ],
    ids=["slot", "phase", "waiting", "twice"],
)
def test_a_state_that_makes_no_sense_stops_it(
    device: VirtualDevice, break_it: Callable[[CheckedScheduler], None]
) -> None:
    device.step()
    assert isinstance(device.scheduler, CheckedScheduler)
    break_it(device.scheduler)
    with pytest.raises(AssertionError):
        device.scheduler.plan(1000.0)
