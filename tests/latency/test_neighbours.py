"""What others take of the machine, from a scripted account of its time."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from bench.latency.neighbours import Neighbours

Machine = namedtuple("Machine", "user system idle iowait steal guest guest_nice")


class Account:
    """A machine's and a process tree's time, as psutil tells them."""

    def __init__(self) -> None:
        self.machine = Machine(100.0, 20.0, 500.0, 5.0, 1.0, 40.0, 0.0)
        self.own_s = 10.0

    def cpu_times(self) -> SimpleNamespace:
        return SimpleNamespace(user=self.own_s / 2, system=0.0)

    def children(self, recursive: bool) -> list[Account]:
        return [self]  # the other half of the tree


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    found = Account()
    monkeypatch.setattr(psutil, "cpu_times", lambda: found.machine)
    monkeypatch.setattr(psutil, "Process", lambda: found)
    return found


def test_only_what_others_took_counts(account: Account) -> None:
    neighbours = Neighbours()
    # 10 s of two cores: 8 s of ours, 3 s of others, 1 s stolen, the rest idle or waiting.
    account.machine = Machine(109.0, 22.0, 507.0, 6.0, 2.0, 45.0, 0.0)
    account.own_s += 8.0
    assert neighbours.share() == pytest.approx(4 / 20)


def test_it_is_a_share_even_where_clocks_disagree(account: Account) -> None:
    neighbours = Neighbours()
    account.own_s += 50.0
    assert neighbours.share() == 0.0
