"""Memory as the machine and control groups of both versions tell it, in folders that look like theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_daemon.memory.gpu import NO_GPUS, Gpus
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Events, GpuMemory, Pressure, Reading

_KIB = 1024
_MACHINE_BYTES = 8_000 * _KIB
_TOTAL_BYTES = 20_000 * _KIB
_NO_LIMIT_V1 = 9223372036854771712


class System:
    """`/proc` and the control groups of a machine with 20,000 KiB, of which 8,000 are available."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.proc = folder / "proc"
        self.root.mkdir()
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "pressure").mkdir()
        self.machine(MemTotal=20_000, MemFree=3, MemAvailable=8_000)
        self.process(VmHWM=900, VmRSS=700, RssAnon=700, RssFile=0)

    def machine(self, **kib: int) -> None:
        (self.proc / "meminfo").write_text("".join(f"{name}:  {size} kB\n" for name, size in kib.items()))

    def process(self, **kib: int) -> None:
        lines = "".join(f"{name}:\t  {size} kB\n" for name, size in kib.items())
        (self.proc / "self/status").write_text(f"Name:\tbise\nUid:\t0\t0\t0\t0\nThreads:\t2\n{lines}")

    def pressure(self, text: str) -> None:
        (self.proc / "pressure/memory").write_text(text)

    def member_of(self, *lines: str) -> None:
        (self.proc / "self/cgroup").write_text("".join(f"{line}\n" for line in lines))

    def group(self, path: str, **files: object) -> None:
        """A group with files `memory.NAME`; a double underscore stands for a dot."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / f"memory.{name.replace('__', '.')}").write_text(f"{content}\n")

    def read(self, gpus: Gpus = NO_GPUS) -> Reading:
        return read_memory(self.root, self.proc, gpus)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


class OneGpu(Gpus):
    """A machine with an accelerator."""

    def read(self) -> tuple[GpuMemory, ...]:
        return (GpuMemory(3, 4),)


def test_without_groups_the_machine_is_the_limit(system: System) -> None:
    reading = system.read()
    assert (reading.available_bytes, reading.limit_bytes) == (_MACHINE_BYTES, _TOTAL_BYTES)
    assert (reading.rss_bytes, reading.peak_rss_bytes) == (700 * _KIB, 900 * _KIB)
    assert reading.events == Events()
    assert not reading.pressure.known


def test_what_we_have_mapped_is_not_available(system: System) -> None:
    system.process(VmRSS=700, RssFile=500)
    assert system.read().available_bytes == 7_500 * _KIB


@pytest.mark.parametrize("names", [["MemTotal"], ["MemAvailable"], []])
def test_a_machine_that_tells_nothing_is_an_error(system: System, names: list[str]) -> None:
    system.machine(**dict.fromkeys(names, 1))
    with pytest.raises(OSError, match=r"expected MemTotal and MemAvailable in .*Run on Linux"):
        system.read()


def test_a_limit_below_the_machine_counts(system: System) -> None:
    system.member_of("0::/app")
    system.group("app", max=5000, current=2000, stat="anon 1500\ninactive_file 300\nactive_file 200")
    reading = system.read()
    assert (reading.available_bytes, reading.limit_bytes) == (5000 - 2000 + 300, 5000)


@pytest.mark.parametrize(("mapped_kib", "idle_bytes"), [(1, 3000 - _KIB), (4, 0)])
def test_idle_page_cache_we_have_mapped_does_not(system: System, mapped_kib: int, idle_bytes: int) -> None:
    system.process(RssFile=mapped_kib)
    system.member_of("0::/app")
    system.group("app", max=5000, current=2000, stat="inactive_file 3000")
    assert system.read().available_bytes == 3000 + idle_bytes


def test_a_limit_above_the_machine_does_not(system: System) -> None:
    system.member_of("0::/app")
    system.group("app", max=_TOTAL_BYTES + 1, current=_TOTAL_BYTES, stat="inactive_file 0")
    reading = system.read()
    assert (reading.available_bytes, reading.limit_bytes) == (_MACHINE_BYTES, _TOTAL_BYTES)


def test_max_is_no_limit(system: System) -> None:
    system.member_of("0::/app")
    system.group("app", max="max", high="max", current=_TOTAL_BYTES, stat="inactive_file 0")
    assert system.read().available_bytes == _MACHINE_BYTES


def test_the_soft_limit_counts_as_well(system: System) -> None:
    system.member_of("0::/app")
    system.group("app", max="max", high=3000, current=2000, stat="inactive_file 0")
    assert system.read().available_bytes == 1000


@pytest.mark.parametrize("name", ["max", "high"])
def test_zero_is_a_limit(system: System, name: str) -> None:
    system.member_of("0::/app")
    system.group("app", **{"max": 3000, name: 0}, current=10)
    reading = system.read()
    assert (reading.available_bytes, reading.limit_bytes) == (0, 0)


@pytest.mark.parametrize(("outer", "inner", "left"), [(4000, 6000, 1000), (6000, 4000, 2000), ("max", 3000, 1000)])
def test_of_nested_groups_the_tightest_counts(system: System, outer: object, inner: object, left: int) -> None:
    system.member_of("0::/outer/middle/inner")
    system.group("outer", max=outer, current=3000, stat="inactive_file 0")
    system.group("outer/middle", max="max", current=2500, stat="inactive_file 0")
    system.group("outer/middle/inner", max=inner, current=2000, stat="inactive_file 0")
    assert system.read().available_bytes == left


def test_inside_a_container_the_root_is_the_own_group(system: System) -> None:
    system.member_of("0::/")
    system.group("", max=3000, current=1000, stat="inactive_file 0")
    assert system.read().available_bytes == 2000


def test_a_group_beyond_its_limit_leaves_nothing(system: System) -> None:
    system.member_of("0::/app")
    system.group("app", max=3000, current=3500, stat="inactive_file 100")
    assert system.read().available_bytes == 0


def test_a_missing_statistic_is_no_reason_to_forget_the_limit(system: System) -> None:
    system.member_of("0::/app")
    system.group("app", max=3000, current=1000)
    assert system.read().available_bytes == 2000


@pytest.mark.parametrize("files", [{"max": 3000}, {"current": 10}, {"max": "?", "current": 10}, {}], ids=str)
def test_files_that_are_missing_or_strange_are_no_limit(system: System, files: dict[str, object]) -> None:
    system.member_of("0::/app")
    system.group("app", **files)
    assert system.read().available_bytes == _MACHINE_BYTES


def test_version_one_has_limits_too(system: System) -> None:
    system.member_of("4:cpu,cpuacct:/", "3:memory:/outer/app", "1:name=systemd:/")
    system.group("memory/outer", limit_in_bytes=4000, usage_in_bytes=3000, stat="total_inactive_file 0")
    system.group(
        "memory/outer/app", limit_in_bytes=3000, usage_in_bytes=2500, stat="inactive_file 1\ntotal_inactive_file 200"
    )
    reading = system.read()
    assert (reading.available_bytes, reading.limit_bytes) == (700, 3000)


def test_version_one_spells_no_limit_as_a_number(system: System) -> None:
    system.member_of("3:memory:/")
    system.group("memory", limit_in_bytes=_NO_LIMIT_V1, usage_in_bytes=2500, stat="total_inactive_file 0")
    assert system.read().available_bytes == _MACHINE_BYTES


def test_both_versions_at_once(system: System) -> None:
    system.member_of("9:cpuset,memory:/app", "0::/app")
    system.group("memory/app", limit_in_bytes=5000, usage_in_bytes=1000)
    system.group("unified/app", pressure="some avg10=2.00 avg60=0 avg300=0 total=1\nfull avg10=1.00 total=1")
    reading = system.read()
    assert reading.available_bytes == 4000
    assert reading.pressure == Pressure(0.02, 0.01)


def test_a_group_outside_of_what_can_be_seen_is_not_followed(system: System) -> None:
    system.member_of("0::/../../elsewhere")
    system.group("", max=3000, current=1000)
    assert system.read().available_bytes == 2000


def test_events_of_all_groups_above_count_once(system: System) -> None:
    system.member_of("0::/outer/inner")
    # What the outer group counts with its children includes the inner's three, and a neighbour's ninety.
    system.group("outer", events="high 0\nmax 98\noom 0\noom_kill 0", events__local="high 1\nmax 5\noom 2\noom_kill 0")
    system.group("outer/inner", events="max 3", events__local="low 9\nhigh 7\nmax 3\noom 0\noom_kill 1")
    assert system.read().events == Events(high=8, max=8, oom=2, oom_kill=1)


def test_an_older_kernel_has_no_events_of_its_own(system: System) -> None:
    system.member_of("0::/app")
    system.group("app", events="high 1\nmax 2\noom 3\noom_kill 4")
    assert system.read().events == Events(1, 2, 3, 4)


def test_version_one_counts_failures_and_kills(system: System) -> None:
    system.member_of("3:memory:/outer/app")
    system.group("memory/outer", failcnt=4, oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1")
    system.group("memory/outer/app", failcnt=3, oom_control="oom_kill_disable 0")
    assert system.read().events == Events(max=7, oom_kill=1)


@pytest.mark.parametrize(
    ("machine", "group", "both"),
    [
        (None, (3, 1), Pressure(0.03, 0.01)),
        ((3, 1), None, Pressure(0.03, 0.01)),
        ((3, 1), (2, 2), Pressure(0.03, 0.02)),
        ((0, 0), None, Pressure(0.0, 0.0)),
        (None, None, Pressure(0.0, 0.0, known=False)),
    ],
)
def test_of_the_machine_s_pressure_and_the_group_s_the_worse_counts(
    system: System, machine: tuple[int, int] | None, group: tuple[int, int] | None, both: Pressure
) -> None:
    system.member_of("0::/outer/app")
    form = "some avg10={}.00 avg60=0.20 avg300=0.05 total=4223\nfull avg10={}.00 avg60=0.10 avg300=0.00 total=2"
    if machine:
        system.pressure(form.format(*machine))
    if group:
        system.group("outer/app", pressure=form.format(*group))
    system.group("outer", pressure=form.format(90, 80))  # of others, too
    assert system.read().pressure == both


def test_accelerators_are_told_as_well(system: System) -> None:
    assert system.read(OneGpu()).gpus == (GpuMemory(3, 4),)


def test_this_process_has_a_size() -> None:
    reading = read_memory()
    assert 1 << 20 < reading.rss_bytes <= reading.peak_rss_bytes
    assert 0 < reading.available_bytes < reading.limit_bytes
