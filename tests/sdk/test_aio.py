from __future__ import annotations

import asyncio

import pytest

from bise import AsyncClient, Cancelled, DaemonUnavailable, DeadlineExceeded, Health, Refused, State, Status
from bise.testing import FakeDaemon, Gate


async def wait_for(event: object) -> bool:
    """Waits for a threading.Event without holding up the loop."""
    return await asyncio.to_thread(event.wait, 5)  # type: ignore[attr-defined]


async def test_every_call(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address) as client:
        assert (await client.chat("Hi")).text == "Hello there"
        assert (await client.generate([1, 2])).text == "Hello there"
        assert (await client.count_tokens("one two")).count == 2
        assert (await client.status()).model == "fake"
        assert await client.health() is Health.SERVING
        assert await client.wait_until_serving() is Health.SERVING


async def test_a_stream_inside_a_with(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address) as client, client.stream_chat("Hi") as stream:
        assert stream.accepted.request_id == "fake-1"
        assert [delta.text async for delta in stream] == ["Hello", " there"]
        assert stream.result.text == "Hello there"


async def test_a_stream_without_a_with(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address) as client:
        assert [delta.text async for delta in client.stream_generate("Hi")] == ["Hello", " there"]


async def test_leaving_the_async_with_cancels(gated_daemon: FakeDaemon) -> None:
    async with AsyncClient(gated_daemon.address) as client:
        async with client.stream_chat("Hi"):
            pass
        assert await wait_for(gated_daemon.requests[0].cancelled)


async def test_leaving_the_async_for_cancels(gated_daemon: FakeDaemon, gate: Gate) -> None:
    gate.open(1)
    async with AsyncClient(gated_daemon.address) as client:
        async for _ in client.stream_chat("Hi"):
            break
        assert await wait_for(gated_daemon.requests[0].cancelled)


async def test_cancelling_the_task_cancels_the_answer(gated_daemon: FakeDaemon, gate: Gate) -> None:
    gate.open(1)
    async with AsyncClient(gated_daemon.address) as client:
        first = asyncio.Event()

        async def read() -> None:
            async for _ in client.stream_chat("Hi"):
                first.set()

        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await wait_for(gated_daemon.requests[0].cancelled)


async def test_a_timeout_of_the_callers_own_cancels_the_answer(gated_daemon: FakeDaemon) -> None:
    async with AsyncClient(gated_daemon.address) as client:
        await client.health()  # connected: what follows takes no time
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.chat("Hi")
        assert await wait_for(gated_daemon.requests[0].cancelled)


async def test_cancel_ends_who_reads(gated_daemon: FakeDaemon) -> None:
    async with AsyncClient(gated_daemon.address) as client, client.stream_chat("Hi") as stream:
        reading = asyncio.create_task(stream.finish())
        await asyncio.sleep(0)
        stream.cancel()
        with pytest.raises(Cancelled):
            await reading


async def test_many_calls_at_once(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address) as client:
        results = await asyncio.gather(*(client.chat(f"{number}") for number in range(16)))
    assert {result.accepted.request_id for result in results} == {f"fake-{number}" for number in range(1, 17)}


async def test_errors_are_typed() -> None:
    with FakeDaemon([Refused("full", retry_after_s=0.25)]) as daemon:
        async with AsyncClient(daemon.address) as client:
            with pytest.raises(Refused) as caught:
                await client.chat("Hi")
    assert caught.value.retry_after_s == 0.25


async def test_watching_the_status(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address) as client:
        async for status in client.watch_status(interval=60):
            if status.state is State.FAILED:
                break
            daemon.set_status(Status(state=State.FAILED))


async def test_watching_ends_when_the_daemon_ends_it(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bise.testing.servicers.Watched.follow", lambda self, context, every_s: iter([self.get()]))
    async with AsyncClient(daemon.address, timeout=0.05) as client:
        statuses = [status async for status in client.watch_status(interval=0.1)]
    assert len(statuses) == 1


async def test_silence_is_a_missed_deadline(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address, timeout=0.05) as client:
        watch, _ = client.watch(60, None)
        await watch.read(5)
        with pytest.raises(DeadlineExceeded, match="sent nothing for"):
            await watch.read(0.05)
        watch.cancel()


async def test_a_closed_client_says_so(daemon: FakeDaemon) -> None:
    client = AsyncClient(daemon.address)
    await client.health()
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.health()


def test_a_client_stays_in_its_event_loop(daemon: FakeDaemon) -> None:
    client = AsyncClient(daemon.address)

    async def call() -> None:
        await client.health()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(call())
        with pytest.raises(RuntimeError, match="belongs to the event loop of its first call"):
            second.run(call())
        first.run(client.close())


async def test_nobody_there(tmp_path: object) -> None:
    async with AsyncClient(f"unix://{tmp_path}/no.sock") as client:
        with pytest.raises(DaemonUnavailable, match="there is no such socket"):
            await client.chat("Hi")
