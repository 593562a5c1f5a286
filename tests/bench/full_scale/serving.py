"""A bundle served by the daemon: how long until it is ready, what it holds, how fast it answers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from tests.bench.full_scale.process import status_bytes

from bise import Client
from bise_proto.bundle import read_manifest

QUESTION = [{"role": "user", "content": "The heating stays cold and the pump hums. What should I look at first?"}]
_READ_BYTES = 1 << 30
_READS = 5


def served(folder: Path, tokens: int, threads: int) -> dict[str, float]:
    """The bundle, loaded twice by the daemon (its first start measures the device), and one chat."""
    with tempfile.TemporaryDirectory() as scratch:
        address = f"unix://{scratch}/bise.sock"
        # Random weights repeat themselves, and guessing would come true as it never does in a real answer.
        config = Path(scratch, "bise.yaml")
        config.write_text("draft_tokens: 0\n", encoding="utf-8")
        command = [sys.executable, "-m", "bise", "serve", "--bundle", str(folder), "--listen", address]
        limits = ["--config", str(config), "--threads", str(threads), "--slots", "1", "--context", "2048"]
        found: dict[str, float] = {}
        for start in ("first", "second"):
            began = time.perf_counter()
            process = subprocess.Popen([*command, *limits])
            try:
                with Client(address, timeout=600) as client:
                    client.wait_until_serving(timeout=600)
                    found[f"{start} load s"] = time.perf_counter() - began
                    if start == "second":
                        found |= _chat(client, tokens)
                        found |= {
                            "daemon peak GiB": status_bytes(process.pid, "VmHWM") / 2**30,
                            "daemon anonymous GiB": status_bytes(process.pid, "RssAnon") / 2**30,
                            "swapped GiB": psutil.swap_memory().used / 2**30,
                        }
            finally:
                process.terminate()
                process.wait()
    return found


def read_bytes_per_token(folder: Path) -> int:
    """What of a bundle's file is read for one token: all but the embedding."""
    bundle = read_manifest(folder)
    return sum(each.bytes for each in bundle.quantization.classes if each.name != "embedding")


def bandwidth(threads: int) -> float:
    """Bytes a second that all threads together read from memory, the best of some."""
    values = [np.ones(_READ_BYTES // 4, np.float32) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_READS):
            began = time.perf_counter()
            list(pool.map(np.max, values))
            best = max(best, threads * _READ_BYTES / (time.perf_counter() - began))
    return best


def _chat(client: Client, tokens: int) -> dict[str, float]:
    result = client.chat(QUESTION, max_tokens=tokens, ignore_eos=True)
    return {
        "prompt tokens": result.usage.prompt_tokens,
        "first token s": result.timings.first_token_ms / 1e3,
        "tokens/s": result.timings.tokens_per_second,
    }
