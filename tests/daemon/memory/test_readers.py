"""Memory as control groups of both versions tell it, in folders that look like theirs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bise_daemon.memory.readers import read_memory

_MACHINE_BYTES = 8000
_NO_LIMIT_V1 = 9223372036854771712


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 8,000 bytes available."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=_MACHINE_BYTES))


class Groups:
    """A system's control groups, as files."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.proc = folder / "proc"
        self.root.mkdir()
        (self.proc / "self").mkdir(parents=True)

    def member_of(self, *lines: str) -> None:
        (self.proc / "self/cgroup").write_text("".join(f"{line}\n" for line in lines))

    def group(self, path: str, **files: object) -> None:
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / f"memory.{name}").write_text(f"{content}\n")

    def available_bytes(self) -> int:
        return read_memory(self.root, self.proc).available_bytes


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_without_groups_the_machine_is_the_limit(groups: Groups) -> None:
    assert groups.available_bytes() == _MACHINE_BYTES


def test_a_limit_below_the_machine_counts(groups: Groups) -> None:
    groups.member_of("0::/app")
    groups.group("app", max=5000, current=2000, stat="anon 1500\ninactive_file 300\nactive_file 200")
    assert groups.available_bytes() == 5000 - 2000 + 300


def test_a_limit_above_the_machine_does_not(groups: Groups) -> None:
    groups.member_of("0::/app")
    groups.group("app", max=50_000, current=2000, stat="inactive_file 0")
    assert groups.available_bytes() == _MACHINE_BYTES


def test_max_is_no_limit(groups: Groups) -> None:
    groups.member_of("0::/app")
    groups.group("app", max="max", high="max", current=2000, stat="inactive_file 0")
    assert groups.available_bytes() == _MACHINE_BYTES


def test_the_soft_limit_counts_as_well(groups: Groups) -> None:
    groups.member_of("0::/app")
    groups.group("app", max="max", high=3000, current=2000, stat="inactive_file 0")
    assert groups.available_bytes() == 1000


@pytest.mark.parametrize(("outer", "inner", "left"), [(4000, 6000, 1000), (6000, 4000, 2000), ("max", 3000, 1000)])
def test_of_nested_groups_the_tightest_counts(groups: Groups, outer: object, inner: object, left: int) -> None:
    groups.member_of("0::/outer/middle/inner")
    groups.group("outer", max=outer, current=3000, stat="inactive_file 0")
    groups.group("outer/middle", max="max", current=2500, stat="inactive_file 0")
    groups.group("outer/middle/inner", max=inner, current=2000, stat="inactive_file 0")
    assert groups.available_bytes() == left


def test_inside_a_container_the_root_is_the_own_group(groups: Groups) -> None:
    groups.member_of("0::/")
    groups.group("", max=3000, current=1000, stat="inactive_file 0")
    assert groups.available_bytes() == 2000


def test_a_group_beyond_its_limit_leaves_nothing(groups: Groups) -> None:
    groups.member_of("0::/app")
    groups.group("app", max=3000, current=3500, stat="inactive_file 100")
    assert groups.available_bytes() == 0


def test_a_missing_statistic_is_no_reason_to_forget_the_limit(groups: Groups) -> None:
    groups.member_of("0::/app")
    groups.group("app", max=3000, current=1000)
    assert groups.available_bytes() == 2000


@pytest.mark.parametrize("files", [{"max": 3000}, {"current": 10}, {"max": "?", "current": 10}, {}], ids=str)
def test_files_that_are_missing_or_strange_are_no_limit(groups: Groups, files: dict[str, object]) -> None:
    groups.member_of("0::/app")
    groups.group("app", **files)
    assert groups.available_bytes() == _MACHINE_BYTES


def test_version_one_has_limits_too(groups: Groups) -> None:
    groups.member_of("4:cpu,cpuacct:/", "3:memory:/outer/app", "1:name=systemd:/")
    groups.group("memory/outer", limit_in_bytes=4000, usage_in_bytes=3000, stat="total_inactive_file 0")
    groups.group(
        "memory/outer/app", limit_in_bytes=3000, usage_in_bytes=2500, stat="inactive_file 1\ntotal_inactive_file 200"
    )
    assert groups.available_bytes() == 700


def test_version_one_spells_no_limit_as_a_number(groups: Groups) -> None:
    groups.member_of("3:memory:/")
    groups.group("memory", limit_in_bytes=_NO_LIMIT_V1, usage_in_bytes=2500, stat="total_inactive_file 0")
    assert groups.available_bytes() == _MACHINE_BYTES


def test_both_versions_at_once(groups: Groups) -> None:
    groups.member_of("9:cpuset,memory:/app", "0::/app")
    groups.group("memory/app", limit_in_bytes=5000, usage_in_bytes=1000)
    groups.group("app", current=10)
    assert groups.available_bytes() == 4000


def test_a_group_outside_of_what_can_be_seen_is_not_followed(groups: Groups) -> None:
    groups.member_of("0::/../../elsewhere")
    groups.group("", max=3000, current=1000)
    assert groups.available_bytes() == 2000


def test_this_process_has_a_size() -> None:
    memory = read_memory()
    assert memory.rss_bytes > 1 << 20
    assert memory.peak_rss_bytes > 1 << 20
