"""What it costs to be watched: a stream of a daemon that is scraped each second, beside one that tells nothing."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from tests.bench import models
from tests.bench.client import serving
from tests.bench.decode import PROMPT, THREADS
from tests.bench.rounds import Figures, interleave, machine, ratio, summary

from bise import Client
from bise_export.pipeline import ExportOptions

BAR = 0.99
# Long enough that a stream is scraped three times: two to three seconds.
TOKENS = 384
# Two processes differ by chance in where their memory lies, as much as by what is measured here: so there are several.
PAIRS, ROUNDS = 3, 6
_SCRAPES = 200
_ON, _OFF = "scraped each second", "without metrics"


def run() -> dict[str, Any]:
    """The table, as plain values."""
    folder = models.bundle(ExportOptions(precision="int4"))
    figures: Figures = {_OFF: [], _ON: []}
    scrape_ms = []
    for _ in range(PAIRS):
        listen = f"127.0.0.1:{_free_port()}"
        with serving(folder) as (quiet, _, _), serving(folder, "--metrics", listen) as (told, _, daemon):

            def scraped(client: Client = told, url: str = f"http://{listen}/metrics") -> float:
                with _scraping(url):
                    return _tokens_per_s(client)

            found = interleave({_OFF: lambda client=quiet: _tokens_per_s(client), _ON: scraped}, ROUNDS)
            for name, values in found.items():
                figures[name] += values
            scrape_ms.append(_scrape_ms(f"http://{listen}/metrics", daemon))
    return {
        "what": f"tokens/s at the SDK, one stream, int4, {TOKENS} tokens, {THREADS} threads",
        "machine": machine(),
        "rounds": figures,
        "summary": summary(figures | {"  the daemon's CPU time for one scrape, ms": scrape_ms}),
        "ratios": {f"{_ON} / {_OFF}": ratio(figures, _ON, _OFF)},
        "bars": {f"{_ON} / {_OFF}": BAR},
    }


def _tokens_per_s(client: Client) -> float:
    with client.stream_generate(PROMPT, max_tokens=TOKENS, ignore_eos=True) as stream:
        deltas = iter(stream)
        next(deltas)
        began = time.perf_counter()
        for _ in deltas:
            pass
        return (TOKENS - 1) / (time.perf_counter() - began)


@contextmanager
def _scraping(url: str) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            _scrape(url)
            over.wait(1.0)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _scrape_ms(url: str, daemon: psutil.Process) -> float:
    """Of an idle daemon, so that nothing else is counted."""
    before = daemon.cpu_times()
    for _ in range(_SCRAPES):
        _scrape(url)
    after = daemon.cpu_times()
    return (after.user + after.system - before.user - before.system) * 1e3 / _SCRAPES


def _scrape(url: str) -> None:
    with urllib.request.urlopen(url, timeout=10) as response:
        response.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
