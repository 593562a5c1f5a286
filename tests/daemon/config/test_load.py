"""Configuration files: every problem at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from bise_daemon.config.address import TcpAddress, UnixAddress
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.document import MAX_FILE_BYTES
from bise_daemon.config.load import config_from_flags, load_config
from bise_daemon.config.problem import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bise.yaml"


def problems(path: Path, content: str | bytes) -> list[str]:
    """The problems of a file with this content, without the folder's name."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == "\n".join(map(str, error.value.problems))
    return [str(problem).replace(f"{path.parent}/", "") for problem in error.value.problems]


def test_a_whole_file_is_read(file: Path) -> None:
    file.write_text(
        "bundle: models/small\nlisten: tcp://127.0.0.1:50051\nslots: 4\ncontext: 2048\nthreads: 2\n"
        "prefill_chunk_tokens: 128\nmax_queue: 0\nmax_message_bytes: 65536\ndrain_timeout_s: 5\ndefault_timeout_s: 1.5\n"
    )

    assert load_config(file) == DaemonConfig(
        bundle=file.parent / "models" / "small",
        listen=TcpAddress("127.0.0.1", 50051),
        slots=4,
        context=2048,
        threads=2,
        prefill_chunk_tokens=128,
        max_queue=0,
        max_message_bytes=65536,
        drain_timeout_s=5.0,
        default_timeout_s=1.5,
    )


def test_only_the_bundle_is_needed(file: Path) -> None:
    file.write_text("bundle: /models/small\n")

    config = load_config(file)

    assert config.bundle == Path("/models/small")
    assert config.listen == UnixAddress(Path("/run/bise/bise.sock"))
    assert (config.slots, config.max_queue, config.context, config.threads) == (8, 64, None, None)


def test_all_problems_are_reported_at_once_in_the_files_order(file: Path) -> None:
    content = (
        'slot: 3\nslots: "8"\nslots: 4\nbundle: 5\nlisten: tcp://0.0.0.0:50051\ncontext: 3\n? [a]\n: 3\n'
        "threads: !!python/name:os.system x\ndrain_timeout_s: .nan\nmax_queue: 2026-13-45\ndefault_timeout_s: 0\n"
    )

    found = problems(file, content)

    starts = [
        "bise.yaml:1: slot: expected a known key, got an unknown one. Did you mean slots?",
        "bise.yaml:2: slots: expected a whole number of requests at once, from 1 to 64, got '8'",
        "bise.yaml:3: slots: expected each key once, got it in line 2 too",
        "bise.yaml:4: bundle: expected the path of a bundle's folder",
        "bise.yaml:5: listen: expected an address only this machine can reach",
        "bise.yaml:6: context: expected a whole number of tokens from 16",
        "bise.yaml:7: expected a name as key, got a collection",
        "bise.yaml:9: threads: expected a plain value, got: could not determine a constructor",
        "bise.yaml:10: drain_timeout_s: expected a number of seconds, from 0 to 3600, got nan",
        "bise.yaml:11: max_queue: expected a plain value, got: month must be in 1..12",
        "bise.yaml:12: default_timeout_s: expected a number of seconds, more than 0",
    ]
    assert [found_one.startswith(start) for found_one, start in zip(found, starts, strict=True)] == [True] * len(starts)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("slots: 0", "slots: expected a whole number of requests at once, from 1 to 64, got 0"),
        ("slots: 65", "slots: expected .* got 65"),
        ("slots: true", "slots: expected .* got True"),
        ("slots: 4.0", "slots: expected .* got 4.0"),
        ("slots: [1, 2]", r"slots: expected .* got \[1, 2\]"),
        ("slots:", "slots: expected .* got None"),
        ("allow_remote: 1", "allow_remote: expected true or false, got 1"),
        ("max_message_bytes: 12", "max_message_bytes: expected .* got 12"),
        ("listen: 5", "listen: expected unix:///absolute/path.sock or tcp://127.0.0.1:PORT, got 5"),
        ("zzz: 1", "zzz: expected a known key, got an unknown one. There are: allow_remote, bundle"),
        (f"slots: {'x' * 500}", "slots: expected .{,200}$"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(file: Path, line: str, problem: str) -> None:
    (found,) = problems(file, f"bundle: x\n{line}\n")

    assert pytest.raises(AssertionError) is not None
    assert found.startswith("bise.yaml:2: ")
    import re

    assert re.match(problem, found.removeprefix("bise.yaml:2: "))
