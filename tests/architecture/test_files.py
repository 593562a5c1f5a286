"""House rules that a file can be held to."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

_SPLIT_AT_LINES = 600
_THINK_AT_LINES = 300
# Modules someone has thought about at 300 lines, and why they stay whole.
_THOUGHT_ABOUT = {
    "bise.aio": "every call of the daemon, each of them once",
    "bise_daemon.admission": "one decision, and the refusals that explain it",
    "bise_daemon.engine.loop": "one thread's life; all of its parts work on the same state",
}

_UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# In two halves, so that this file does not hold what it looks for.
_FORBIDDEN_TEXT = {
    "a home folder": r"/(?:home|Users)" + r"/[a-z]",
    "the root user's folder": r"(?<![\w.])/ro" + r"ot/",
    "a workplace's folder": r"(?<![\w.}])/wo" + r"rk/",
    "a package registry's address": r"py" + r"pi\.org|python" + r"hosted\.org|artifact" + r"ory|index-" + "url",
}


def tracked(root: Path) -> list[Path]:
    """What is in the repository, or will be once it is added."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


def test_modules_are_short(sources: Any) -> None:
    lengths = {source.name: len(source.path.read_text().splitlines()) for source in sources}
    assert [name for name, lines in lengths.items() if lines > _SPLIT_AT_LINES] == [], "split them"
    long = {name for name, lines in lengths.items() if lines > _THINK_AT_LINES}
    assert long == _THOUGHT_ABOUT.keys(), "think: split it, or say in _THOUGHT_ABOUT why it stays whole"


def test_modules_are_nouns(sources: Any) -> None:
    assert [source.name for source in sources if _VAGUE_NAMES & set(source.name.split("."))] == []


def test_modules_say_what_they_are(sources: Any) -> None:
    silent = [source.name for source in sources if source.tree.body and not ast.get_docstring(source.tree)]
    assert silent == []


def test_public_names_say_what_they_are(sources: Any) -> None:
    silent = [
        f"{source.name}.{node.name}"
        for source in sources
        for node in source.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_nothing_is_pickled(sources: Any) -> None:
    assert [
        source.name for source in sources if _UNSAFE_MODULES & {name.split(".")[0] for name in source.imports}
    ] == []


def test_nothing_asks_for_a_pickle(sources: Any) -> None:
    asking = [
        source.name
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.keyword)
        and node.arg == "allow_pickle"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert asking == []


def test_nothing_runs_text_as_code(sources: Any) -> None:
    running = [
        source.name
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    ]
    assert running == []


def test_nothing_is_left_to_do(root: Path) -> None:
    marks = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert found(root, marks) == []


@pytest.mark.parametrize("what", _FORBIDDEN_TEXT)
def test_files_name_no_place_of_their_making(root: Path, what: str) -> None:
    assert found(root, re.compile(_FORBIDDEN_TEXT[what])) == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a home folder", "see /ho" + "me/ann/model"),
        ("the root user's folder", "'/ro" + "ot/.cache'"),
        ("a workplace's folder", "cd /wo" + "rk/main"),
        ("a package registry's address", "https://py" + "pi.org/simple"),
        ("a package registry's address", "--extra-index-" + "url=x"),
    ],
)
def test_what_is_looked_for_would_be_found(what: str, text: str) -> None:
    assert re.search(_FORBIDDEN_TEXT[what], text)


def found(root: Path, pattern: re.Pattern[str]) -> list[str]:
    """Where the pattern is in the repository's text files, as file:line."""
    places = []
    for path in tracked(root):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        places += [f"{path.relative_to(root)}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    return places
