"""What it costs that calls through systemd's socket pass the daemon's event loop twice, beside systemd's own proxy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from tests.bench import models
from tests.bench.client import Caller
from tests.bench.decode import ROUNDS, THREADS, TOKENS
from tests.bench.rounds import interleave, machine, ratio, summary

from bise import Client
from bise_export.pipeline import ExportOptions

_PROXY = "/lib/systemd/systemd-socket-proxyd"


def run() -> dict[str, Any]:
    """The table, as plain values."""
    folder = models.bundle(ExportOptions(precision="int4"))
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        outer = Path(scratch, "bise.sock")
        config = Path(scratch, "bise.yaml")
        config.write_text(f"bundle: {folder}\nlisten: unix://{outer}\nthreads: {THREADS}\ndraft_tokens: 0\n")
        serve = [sys.executable, "-m", "bise", "serve", "--config", str(config)]
        daemon = stack.enter_context(_activated(serve, outer, scratch))
        Client(f"unix://{outer}").wait_until_serving(timeout=60)
        (inner,) = Path(scratch).glob("bise-*/grpc.sock")
        addresses = {"direct": inner, "relay": outer}
        if Path(_PROXY).exists():
            addresses["systemd-socket-proxyd"] = Path(scratch, "proxy.sock")
            command = [_PROXY, str(inner)]
            stack.enter_context(_activated(command, addresses["systemd-socket-proxyd"], scratch))
        callers = {
            name: Caller(stack.enter_context(Client(f"unix://{path}")), daemon) for name, path in addresses.items()
        }
        figures = interleave({name: caller.ms_per_token for name, caller in callers.items()}, ROUNDS)
    for name, caller in callers.items():
        figures[f"  CPU time of the daemon, {name}"] = caller.daemon_cpu_ms[1:]
    return {
        "what": f"milliseconds a token, one stream, int4, {TOKENS} tokens, {THREADS} threads",
        "machine": machine(),
        "rounds": figures,
        "summary": summary(figures),
        "ratios": {f"direct / {name}": ratio(figures, "direct", name) for name in addresses if name != "direct"},
    }


@contextmanager
def _activated(command: Sequence[str], path: Path, scratch: str) -> Iterator[psutil.Process]:
    """A process that was given a listening socket, as systemd gives one."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = subprocess.Popen(
            ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh", *command],
            preexec_fn=lambda: os.dup2(listener.fileno(), 3),
            pass_fds=[3],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": scratch},
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()
