"""Who may import what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Python = Callable[..., str]

# What decisions over plain values need, and nothing that can wait, look at a clock, or tell anyone.
_PURE = {"__future__", "bisect", "collections", "collections.abc", "dataclasses", "enum", "itertools", "typing"}
_IMPURE = (
    "asyncio", "concurrent", "contextvars", "datetime", "grpc", "io", "logging", "multiprocessing", "numpy",
    "onnxruntime", "os", "queue", "random", "secrets", "select", "selectors", "signal", "socket", "subprocess",
    "_thread", "threading", "time", "bise_proto",
)  # fmt: skip
# The script's first lines: from here on, an import of one of these fails, even where something else has loaded it.
_BLOCK = "import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"
_IMPORT_ALL = """
import importlib, pkgutil
for package in {packages!r}:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""


def block(names: Sequence[str]) -> str:
    return _BLOCK.format(names=tuple(names))


def import_all(*packages: str) -> str:
    return _IMPORT_ALL.format(packages=packages)


@pytest.mark.slow
def test_the_contracts_of_pyproject_are_kept(root: Path) -> None:
    command = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([command, "--no-cache"], cwd=root, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout
    assert ", 0 broken." in ended.stdout


def test_the_scheduler_names_only_what_is_pure(sources: Any) -> None:
    named = {
        (source.name, module)
        for source in sources
        if source.name.startswith("bise_daemon.scheduler")
        for module in source.imports
        if not (module in _PURE or module.rpartition(".")[0] in _PURE or module.startswith("bise_daemon.scheduler."))
    }
    assert not named


def test_the_scheduler_works_where_there_is_no_clock_no_thread_and_no_log(python: Python) -> None:
    # What the pure modules and this script need for themselves is loaded first.
    preload = "".join(f"import {name}\n" for name in (*sorted(_PURE - {"__future__"}), "pkgutil"))
    play = """
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Outcome, Prefill, Verify
class Costs:
    margin = 1.0
    def prefill_ms(self, tokens, context_tokens): return tokens
    def decode_ms(self, rows, context_tokens): return rows
    def mixed_ms(self, tokens, context_tokens, rows, rows_context_tokens): return tokens + rows
    def verify_ms(self, tokens, context_tokens): return 1
    def copy_ms(self, tokens): return 0
scheduler = Scheduler(Limits(2, 16, 32, 4, spare_slots=1, idle_tokens=32, draft_tokens=2), Costs())
for name in "abc":
    scheduler.submit(Request(name, [5] * 6, 3))
while scheduler.has_work:
    plan = scheduler.plan(0.0)
    match plan.work:
        case Decode(rows=rows):
            sampled = [row.request_id for row in rows if row.request_id]
        case Prefill(request_id=name, samples=samples):
            sampled = [name] * samples
        case Verify(request_id=name):
            sampled = [name]
        case None:
            sampled = []
    for name in scheduler.commit(plan, {each: Outcome([5], False) for each in sampled}, 0.0):
        print("ended", name)
del sys.modules["threading"]  # the interpreter's own end asks for it
"""
    script = preload + block(_IMPURE) + import_all("bise_daemon.scheduler") + play
    assert python(script).split("\n")[-4:] == ["ended a", "ended b", "ended c", ""]


@pytest.mark.parametrize("name", ["time", "threading", "grpc"])
def test_the_block_blocks(python: Python, name: str) -> None:
    script = block(_IMPURE) + f"try:\n    import {name}\nexcept ImportError:\n    print('blocked')\n"
    assert python(script) == "blocked\n"


def test_one_module_of_the_daemon_knows_onnxruntime(sources: Any) -> None:
    knowing = {
        source.name
        for source in sources
        if source.package == "bise_daemon" and any(name.split(".")[0] == "onnxruntime" for name in source.imports)
    }
    assert knowing == {"bise_daemon.engine.session"}


@pytest.mark.slow
def test_everything_imports_without_torch(python: Python, sources: Any) -> None:
    imported = python(
        block(["torch", "transformers", "optimum", "llama_cpp"])
        + import_all("bise", "bise_daemon", "bise_export", "bise_proto")
    ).split()
    wanted = {source.name for source in sources if source.path.name not in ("__init__.py", "__main__.py")}
    assert wanted <= set(imported)


@pytest.mark.parametrize(
    ("module", "named"),
    [("torch", ["bise_export.oracle"]), ("transformers", ["bise_export.oracle"]), ("optimum", []), ("llama_cpp", [])],
)
def test_the_reference_is_named_where_it_is_asked_for_and_nowhere_else(
    sources: Any, module: str, named: list[str]
) -> None:
    found = [source.name for source in sources if any(name.split(".")[0] == module for name in source.imports)]
    assert found == named


def test_the_version_needs_no_part(python: Python) -> None:
    script = block(["grpc", "google", "onnxruntime", "numpy", "bise_daemon", "bise_export", "tokenizers"])
    script += "sys.argv = ['bise', 'version']\nfrom bise.cli import main\nmain()"
    assert python(script).startswith("bise ")
