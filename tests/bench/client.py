"""What a caller sees over the unix socket and over HTTP, beside the engine loop alone, and where the rest goes."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil
from tests.bench import models
from tests.bench.decode import PROMPT, ROUNDS, THREADS, TOKENS, EngineLoop
from tests.bench.rounds import interleave, machine, ratio, summary

from bise import Client
from bise_export.pipeline import ExportOptions

BAR = 0.8


class Caller:
    """The SDK in this process, the daemon in another."""

    def __init__(self, client: Client, daemon: psutil.Process) -> None:
        self._client = client
        self._daemon = daemon
        self._me = psutil.Process()
        self.daemon_ms: list[float] = []
        self.daemon_cpu_ms: list[float] = []
        self.client_cpu_ms: list[float] = []

    def ms_per_token(self) -> float:
        """Milliseconds for each token after the first, as they reach this process."""
        before = _cpu_s(self._daemon), _cpu_s(self._me)
        with self._client.stream_generate(PROMPT, max_tokens=TOKENS, ignore_eos=True) as stream:
            deltas = iter(stream)
            next(deltas)
            began = time.perf_counter()
            for _ in deltas:
                pass
            took_ms = (time.perf_counter() - began) * 1e3 / (TOKENS - 1)
        self.daemon_ms.append(1e3 / stream.result.timings.tokens_per_second)
        self.daemon_cpu_ms.append((_cpu_s(self._daemon) - before[0]) * 1e3 / TOKENS)
        self.client_cpu_ms.append((_cpu_s(self._me) - before[1]) * 1e3 / TOKENS)
        return took_ms


class HttpCaller:
    """OpenAI's client in this process."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client
        self._model = client.models.list().data[0].id

    def ms_per_token(self) -> float:
        """As `Caller`'s."""
        stream = self._client.completions.create(
            model=self._model,
            prompt=PROMPT,
            max_tokens=TOKENS,
            temperature=0,
            stream=True,
            extra_body={"bise": {"ignore_eos": True}},
        )
        texts = (chunk for chunk in stream if chunk.choices and chunk.choices[0].finish_reason is None)
        next(texts)
        began = time.perf_counter()
        for _ in texts:
            pass
        return (time.perf_counter() - began) * 1e3 / (TOKENS - 1)


def run() -> dict[str, Any]:
    """The table, as plain values."""
    folder = models.bundle(ExportOptions(precision="int4"))
    loop = EngineLoop(folder)
    with serving(folder) as (client, http, process):
        caller, http_caller = Caller(client, process), HttpCaller(http)
        ways = {
            "engine loop": loop.ms_per_token,
            "SDK over unix socket": caller.ms_per_token,
            "OpenAI's client over HTTP": http_caller.ms_per_token,
        }
        figures = interleave(ways, ROUNDS)
    loop.close()
    figures |= {
        "  of it, as the daemon's engine saw it": caller.daemon_ms[1:],
        "  CPU time of the daemon": caller.daemon_cpu_ms[1:],
        "  CPU time of the client": caller.client_cpu_ms[1:],
    }
    return {
        "what": f"milliseconds a token, one stream, int4, {TOKENS} tokens, {THREADS} threads",
        "machine": machine(),
        "rounds": figures,
        "summary": summary(figures),
        "ratios": {
            "SDK tokens/s / engine loop tokens/s": ratio(figures, "engine loop", "SDK over unix socket"),
            "HTTP tokens/s / SDK tokens/s": ratio(figures, "SDK over unix socket", "OpenAI's client over HTTP"),
        },
        "bars": {"SDK tokens/s / engine loop tokens/s": BAR},
    }


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[tuple[Client, openai.OpenAI, psutil.Process]]:
    """A daemon that guesses nothing, and clients of it, by both doors."""
    with tempfile.TemporaryDirectory() as scratch:
        address = f"unix://{scratch}/bise.sock"
        config = Path(scratch, "bise.yaml")
        port = _free_port()
        # Without drafts, as the engine loop alone.
        config.write_text(f"draft_tokens: 0\nhttp:\n  listen: 127.0.0.1:{port}\n", encoding="utf-8")
        command = [sys.executable, "-m", "bise", "serve", "--bundle", str(folder), "--listen", address]
        settings = ["--config", str(config), "--threads", str(THREADS), *flags]
        process = subprocess.Popen([*command, *settings], stderr=subprocess.DEVNULL)
        try:
            base_url = f"http://127.0.0.1:{port}/v1"
            with Client(address) as client, openai.OpenAI(base_url=base_url, api_key="none") as http:
                client.wait_until_serving(timeout=60)
                yield client, http, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
