"""What the engine publishes between steps, for those who decide about new requests."""

from __future__ import annotations

from collections.abc import Callable

from bise_daemon.engine.outlook import Outlook
from scripted_engine import Rig, answer
from virtual_device import LinearCosts

MakeRig = Callable[..., Rig]


def watch(rig: Rig, steps: int) -> list[Outlook]:
    """The outlooks within each of the first steps, in a list that fills as they run."""
    seen: list[Outlook] = []

    def look() -> None:
        seen.append(rig.engine.outlook)
        rig.clock.now += 10

    rig.runner.on_step = dict.fromkeys(range(steps), look)
    return seen


def test_before_the_first_request_it_shows_what_is_computed_already(make_rig: MakeRig) -> None:
    rig = make_rig(spare_slots=1, idle_tokens=64)
    assert rig.engine.outlook == Outlook(at_ms=rig.clock.now, standings=[], prefixes=[])
    rig.scheduler.pin(3, [5, 6, 7])
    engine = rig.make_engine(rig.inbox.deliver)
    assert engine.outlook == Outlook(at_ms=rig.clock.now, standings=[], prefixes=[([5, 6, 7], 3)])


def test_within_a_step_it_shows_its_end(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4)
    seen = watch(rig, 9)
    rig.submit("a", [5] * 6, 3)
    rig.submit("b", [6] * 3, 2)
    rig.start()
    rig.tokens("b")
    standings = [
        {
            each.id: (each.running, each.computed_tokens, each.left_to_prefill, each.left_to_generate, each.begun)
            for each in outlook.standings
        }
        for outlook in seen
    ]
    waiting = (False, 0, 3, 2, False)
    assert standings == [
        {"a": (True, 4, 2, 3, False), "b": waiting},
        {"a": (True, 6, 0, 2, True), "b": waiting},
        {"a": (True, 7, 0, 1, True), "b": waiting},
        {"b": waiting},
        {"b": (True, 3, 0, 1, True)},
        {},
    ]
    assert [outlook.taken for outlook in seen] == [2] * 6
    costs = LinearCosts()
    took_ms = [
        costs.prefill_ms(4, 0),
        costs.prefill_ms(2, 4),
        costs.decode_ms(1, 6),
        costs.decode_ms(1, 7),
        costs.prefill_ms(3, 0),
        costs.decode_ms(1, 3),
    ]
    assert [outlook.at_ms for outlook in seen] == [1000 + 10 * step + took_ms[step] for step in range(6)]
    assert all(outlook.busy for outlook in seen)


def test_at_the_end_time_goes_on_for_nobody(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.submit("a", [5, 6, 7], 3)
    rig.start()
    rig.tokens("a")
    rig.engine.stop()
    outlook = rig.engine.outlook
    assert (outlook.taken, outlook.busy, list(outlook.standings)) == (1, False, [])


def test_who_leaves_is_gone_from_it_even_before_their_first_step(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1)
    rig.submit("runs", [5], 40)
    rig.submit("waits", [6], 40)

    def leave() -> None:
        rig.engine.abort("waits")
        rig.engine.abort("runs")

    rig.runner.on_step[2] = leave
    rig.start()
    rig.settle()
    rig.engine.stop()
    outlook = rig.engine.outlook
    assert (outlook.taken, outlook.busy, list(outlook.standings)) == (3, False, [])


def test_prefixes_are_what_others_can_find_computed(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2, chunk=4, idle_tokens=64)
    seen = watch(rig, 4)
    prompt = [5, 6, 7, 8, 9, 10]
    rig.submit("a", prompt, 3)
    rig.start()
    rig.tokens("a")
    rig.engine.stop()
    # Of one that runs, its prompt's tokens as far as they are computed; of one that ended, all but the last sampled.
    assert [[(list(tokens), held) for tokens, held in outlook.prefixes] for outlook in seen] == [
        [],
        [(prompt, 4)],
        [(prompt, 6)],
        [(prompt, 6)],
    ]
    kept = [*prompt, *answer(prompt, 3)[:-1]]
    assert [(list(tokens), held) for tokens, held in rig.engine.outlook.prefixes] == [(kept, len(kept))]
    assert rig.engine.counters.idle_tokens == len(kept)
