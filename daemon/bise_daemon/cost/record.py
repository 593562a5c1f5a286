"""A calibration kept on disk for the next start with the same bundle on the same device."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from bise_daemon.cost.curve import Curve
from bise_daemon.state import replacing, sealed, unsealed

logger = logging.getLogger(__name__)

_FORMAT = 2
_MOST_BYTES = 64 << 10
_MOST_CPUINFO_BYTES = 1 << 20
# What says which processor this is: one line on x86, several numbers on ARM, where cores may also differ.
_CPU_FIELDS = frozenset(
    ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part", "CPU revision")
)


@dataclass(frozen=True, slots=True)
class _Record:
    """What the file's second line holds, as JSON; the first is the SHA-256 of the second."""

    key: str
    curve: Curve


_RECORDS = TypeAdapter(_Record)


def record_key(manifest: bytes, *, runtime: str, cpu: str, threads: int, slots: int, context_tokens: int) -> str:
    """What a calibration holds for.

    Args:
        manifest: the bytes of bundle.json, which has the hash of every other file.
        runtime: name and version of what runs the graph.
        cpu: see `cpu_identity`.
        threads: for one step, as configured.
        slots: of the cache.
        context_tokens: entries a slot can hold.

    Returns:
        64 hexadecimal digits.
    """
    parts = [_FORMAT, hashlib.sha256(manifest).hexdigest(), runtime, cpu, threads, slots, context_tokens]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def cpu_identity(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The kinds of processors of this machine, and how many of them this process may use."""
    return "; ".join([*cpu_kinds(_CPU_FIELDS, cpuinfo), f"cpus={len(os.sched_getaffinity(0))}"])


def cpu_kinds(fields: Collection[str], cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """What /proc/cpuinfo says in these fields, of all processors, each value once."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_CPUINFO_BYTES)
    except OSError:  # no Linux
        text = ""
    pairs = (line.partition(":") for line in text.splitlines())
    return sorted({f"{name.strip()}={value.strip()}" for name, _, value in pairs if name.strip() in fields})


def load(folder: Path, key: str) -> Curve | None:
    """The calibration saved under `key`.

    Returns:
        None when there is none, or, with a warning, when the file is not as it was saved: cut, damaged, edited by
        hand, or another device's under this one's name.
    """
    path = _path(folder, key)
    try:
        return _parse(_read(path), key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        logger.warning("%s: ignored, and the device is calibrated again: %s", path, problem)
        return None


def save(folder: Path, key: str, curve: Curve) -> None:
    """Keeps a calibration, whole or not at all; where the folder can't be written, it says so in a warning."""
    path = _path(folder, key)
    body = _RECORDS.dump_json(_Record(key, curve))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(sealed(body))
    except OSError as error:
        logger.warning("%s: not saved, so the next start calibrates again: %s", path, error)


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key[:32]}.calibration.json"


def _read(path: Path) -> bytes:
    # Not blocking: opening a pipe that somebody put there must not wait for its other end.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes")
    return content


def _parse(content: bytes, key: str) -> Curve:
    record = _RECORDS.validate_json(unsealed(content))
    if record.key != key:
        raise ValueError(f"expected a calibration for {key}, got one for {record.key}")
    return record.curve
