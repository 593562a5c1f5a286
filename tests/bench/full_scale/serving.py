"""A bundle served by the daemon: how long until it is ready, what it holds, how fast it answers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tests.bench.full_scale.process import status_bytes

from bise import Client
from bise_proto.bundle import read_manifest

QUESTION = [{"role": "user", "content": "The heating stays cold and the pump hums. What should I look at first?"}]
_READ_BYTES = 1 << 30
_READS = 5


def served(folder: Path, tokens: int, threads: int, state: Path) -> dict[str, Any]:
    """The bundle with its weights repacked at each start, and specialised: started twice, and asked the second time.

    A first start also measures the device, and specialises. The second is the one with a warm page cache.

    Raises:
        SystemExit: the answers differ.
    """
    found: dict[str, Any] = {}
    answers = set()
    for specialise, name in (("never", "weights repacked"), ("always", "specialised")):
        with tempfile.TemporaryDirectory() as scratch:
            address = f"unix://{scratch}/bise.sock"
            config = Path(scratch, "bise.yaml")
            # Random weights repeat themselves, and guessing would come true as it never does in a real answer.
            config.write_text(f"draft_tokens: 0\nstate_dir: {state}\nspecialise: {specialise}\n", encoding="utf-8")
            command = [sys.executable, "-m", "bise", "serve", "--bundle", str(folder), "--listen", address]
            command += ["--config", str(config), "--threads", str(threads), "--slots", "1", "--context", "2048"]
            figures: dict[str, float] = {}
            for start in ("first", "later"):
                swapped_bytes = psutil.swap_memory().used
                began = time.perf_counter()
                process = subprocess.Popen(command)
                try:
                    with Client(address, timeout=3600) as client:
                        client.wait_until_serving(timeout=3600)
                        figures[f"{start} start, ready after s"] = time.perf_counter() - began
                        figures[f"{start} start, load s"] = client.status().load_ms / 1e3
                        if start == "later":
                            answers.add(_chat(client, tokens, figures))
                            figures |= {
                                "anonymous GiB": status_bytes(process.pid, "RssAnon") / 2**30,
                                "mapped GiB": status_bytes(process.pid, "RssFile") / 2**30,
                                "peak GiB": status_bytes(process.pid, "VmHWM") / 2**30,
                                "swapped GiB": (psutil.swap_memory().used - swapped_bytes) / 2**30,
                            }
                finally:
                    process.terminate()
                    process.wait()
            found[name] = figures
    if len(answers) != 1:
        raise SystemExit(f"expected the same answer either way, got {answers}")
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


def _chat(client: Client, tokens: int, figures: dict[str, float]) -> str:
    result = client.chat(QUESTION, max_tokens=tokens, ignore_eos=True)
    figures |= {
        "prompt tokens": result.usage.prompt_tokens,
        "first token s": result.timings.first_token_ms / 1e3,
        "tokens/s": result.timings.tokens_per_second,
    }
    return result.text
