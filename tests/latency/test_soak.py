"""The soak's own parts: who behaves how, what counts as a leak, and a cut that nobody is told of."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from bench.latency.shapes import Budget
from bench.latency.trace import Call
from bench.soak.cable import Cable
from bench.soak.callers import Callers
from bench.soak.conduct import Conduct, Manner, conducts
from bench.soak.samples import Sample, drift, rows, shown
from bench.soak.wrong import Sizes, Wrong, is_right, wrong_requests
from bise import AsyncClient
from bise.errors import BiseError, DaemonError, DeadlineExceeded, OverBudget
from bise.testing import Answer, FakeDaemon, Gate

_MIB = 1 << 20


def sample(at_s: float, rss_mib: float = 300.0, **more: Any) -> Sample:
    names = [name for name in Sample.__dataclass_fields__ if name not in ("at_s", "rss_bytes")]
    return Sample(at_s, int(rss_mib * _MIB), **(dict.fromkeys(names, 0) | more))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")  # short: the path of a socket has a limit


class TestConduct:
    def test_the_same_seed_gives_the_same_callers(self) -> None:
        assert list(islice(conducts("a"), 50)) == list(islice(conducts("a"), 50))
        assert list(islice(conducts("a"), 50)) != list(islice(conducts("b"), 50))

    def test_all_manners_classes_and_budgets_occur(self) -> None:
        seen = list(islice(conducts("a"), 2000))
        manners = Counter(one.manner for one in seen)
        assert manners.keys() == set(Manner)
        assert 0.25 < 1 - manners[Manner.STAYS] / len(seen) < 0.4
        assert {one.options["priority"] for one in seen} == {"interactive", "critical", "background"}
        assert {len(one.stated) for one in seen} == {0, 1, 3}

    def test_only_what_is_stated_is_sent(self) -> None:
        conduct = Conduct(Manner.STAYS, 0.1, ("timeout", "per_token_timeout"), {"seed": 3})
        options = conduct.options_for(Budget(first_token_ms=300, per_token_ms=50, total_ms=2000))
        assert options == {"seed": 3, "timeout": 2.0, "per_token_timeout": 0.05}


class TestDrift:
    def test_memory_that_fills_up_at_first_and_then_stays_is_flat(self) -> None:
        filling = [sample(at_s, min(300, 200 + 20 * at_s)) for at_s in range(100)]
        assert drift(filling, attrgetter("rss_bytes")) == 0

    def test_memory_that_grows_for_ever_is_not(self) -> None:
        leaking = [sample(at_s, 300 + 0.1 * at_s) for at_s in range(100)]
        assert drift(leaking, attrgetter("rss_bytes")) == pytest.approx(7 / 302, rel=0.05)

    def test_the_cache_is_no_leak(self) -> None:
        busy = [sample(at_s, 300 + at_s, kv_used_bytes=at_s * _MIB) for at_s in range(100)]
        assert drift(busy, attrgetter("fixed_bytes")) == 0

    def test_too_short_a_run_says_so(self) -> None:
        with pytest.raises(ValueError, match="Run longer"):
            drift([sample(0), sample(1)], attrgetter("rss_bytes"))


@pytest.mark.parametrize(("samples", "groups"), [(1, 1), (60, 60), (61, 31), (360, 60)])
def test_rows_are_bounded_and_shown_in_people_s_units(samples: int, groups: int) -> None:
    found = rows([sample(at_s, queued=7) for at_s in range(samples)], 60)
    assert len(found) == groups
    assert {row["queued"] for row in found} == {7}
    assert shown(found[0])["rss, MiB"] == 300


@pytest.mark.parametrize(
    ("daemon_says", "manner", "outcome"),
    [
        (Answer(text=["a", "b", "c", "d", "e"]), Manner.STAYS, "answered"),
        (OverBudget("no", reason="BUDGET"), Manner.STAYS, "refused: BUDGET"),
        (DeadlineExceeded("late", reason="DEADLINE"), Manner.STAYS, "failed at its deadline, as asked"),
        ("silent", Manner.CANCELS, "left: cancels its call"),
        ("silent", Manner.HANGS_UP, "left: closes its connection"),
        ("silent", Manner.IS_CUT, "left: is cut off"),
    ],
)
async def test_how_a_call_may_end(
    folder: Path, call: Callable[..., Call], daemon_says: Answer | BiseError | str, manner: Manner, outcome: str
) -> None:
    script = Answer(gate=Gate()) if daemon_says == "silent" else daemon_says
    with FakeDaemon([script]) as daemon:
        async with AsyncClient(daemon.address) as client:
            callers = Callers(client, folder)
            await callers.right(call(), Conduct(manner, 0.1, (), {}))
    assert (callers.outcomes, callers.unexpected) == ({outcome: 1}, [])


async def test_what_must_not_happen_is_noted(folder: Path, call: Callable[..., Call]) -> None:
    with FakeDaemon([Answer(error=DaemonError("it broke"))]) as daemon:
        async with AsyncClient(daemon.address) as client:
            callers = Callers(client, folder)
            await callers.right(call(), Conduct(Manner.STAYS, 0.25, (), {}))
            await callers.wrong("odd", Wrong("/bise.v1.Inference/Nothing", b"", "EMPTY_PROMPT"))
    assert callers.unexpected_count == 2
    assert "it broke" in callers.unexpected[0]
    assert callers.unexpected[1] == "odd: expected EMPTY_PROMPT, got UNIMPLEMENTED"


async def test_a_cut_cable_drops_both_ends(folder: Path) -> None:
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        ended.set()

    async with await asyncio.start_unix_server(echo, folder / "far"), Cable(folder / "near", folder / "far") as cable:
        reader, writer = await asyncio.open_unix_connection(folder / "near")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        cable.cut()
        assert await reader.read(100) == b""
        await asyncio.wait_for(ended.wait(), 5)
        writer.close()
    assert not (folder / "near").exists()


def test_a_full_queue_is_a_right_answer_to_anything() -> None:
    wrong = wrong_requests(Sizes(context_tokens=64, message_bytes=1024, vocabulary=100))["no tokens"]
    assert is_right(wrong, "EMPTY_PROMPT")
    assert is_right(wrong, "QUEUE_FULL")
    assert not is_right(wrong, "an answer")
