"""A machine with a real systemd: namespaces over this one's files, whose changes are kept in memory and then lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
_BOOT = Path(__file__).with_name("boot.sh")
_PATIENCE_S = 60
_HOMES = ("/ho" + "me/", "/ro" + "ot/")


class NoMachineError(OSError):
    """Namespaces are not permitted here, or there is no systemd; says why."""


class Journal:
    """What a unit logs, line by line: waiting for something is waiting for its line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[str] = []

    def until(self, words: str) -> str:
        """The next line with these words."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if words in line:
                return self.lines[-1]
        raise AssertionError(f"the journal ended without {words!r}: {self.lines}")


class Machine:
    """Runs commands inside.

    Attributes:
        root: its files, as they are seen from here.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command says; both outputs of one that fails."""
        ended = subprocess.run(self._inside(command), capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        if check and ended.returncode:
            raise AssertionError(f"{' '.join(command)}: {ended.returncode}: {ended.stdout}{ended.stderr}")
        return ended.stdout if not ended.returncode else ended.stdout + ended.stderr

    @contextmanager
    def journal(self, unit: str) -> Iterator[Journal]:
        """What the unit and systemd say of it from here on."""
        cursor = self.run("journalctl", "--quiet", "--lines=0", "--show-cursor").rpartition("cursor: ")[2].strip()
        command = ["journalctl", "--follow", "--output=cat", "--quiet", f"--unit={unit}"]
        command += [f"--after-cursor={cursor}"] if cursor else ["--no-tail"]
        with subprocess.Popen(self._inside(command), stdout=subprocess.PIPE, text=True) as process:
            try:
                yield Journal(process)
            finally:
                process.kill()

    def property(self, unit: str, name: str) -> str:
        """As `systemctl show` says it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def write(self, path: str, text: str) -> None:
        """Writes a file at an absolute path."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--target={self._pid}", "--all", "--", *command]


@contextmanager
def machine() -> Iterator[Machine]:
    """Boots one, and ends it when the block is left.

    Raises:
        NoMachineError: none can be booted here.
    """
    if not SYSTEMD.exists():
        raise NoMachineError(f"expected {SYSTEMD}, which is in the package systemd")
    if missing := [name for name in ("unshare", "nsenter") if shutil.which(name) is None]:
        raise NoMachineError(f"expected the command {missing[0]}, which is in the package util-linux")
    folder = Path(tempfile.mkdtemp(prefix="bise-machine-"))
    group = folder.name
    boot = subprocess.Popen(
        ["unshare", "--mount", "--", str(_BOOT), str(folder), group],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        yield _booted(boot)
    finally:
        # With the first process of its namespace, all others end.
        for child in _children(boot.pid):
            os.kill(child, signal.SIGKILL)
        boot.communicate(timeout=_PATIENCE_S)
        _remove_group(folder, group)
        shutil.rmtree(folder, ignore_errors=True)


def _booted(boot: subprocess.Popen[str]) -> Machine:
    """The machine, once its systemd answers."""
    for _ in range(600):
        with suppress(subprocess.TimeoutExpired):
            boot.wait(0.1)
            assert boot.stderr is not None
            raise NoMachineError(f"namespaces are not permitted here: {boot.stderr.read().strip()}")
        for child in _children(boot.pid):
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                booted = Machine(child)
                if booted.run("systemctl", "is-system-running", "--wait", check=False).split()[:1] in (
                    ["running"],
                    ["degraded"],
                ):
                    return booted
    raise NoMachineError("systemd did not come up within a minute")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _remove_group(folder: Path, group: str) -> None:
    remove = 'mount -t cgroup2 cgroup2 "$0" && find "$0/$1" -depth -type d -exec rmdir {} +'
    subprocess.run(["unshare", "--mount", "sh", "-c", remove, str(folder), group], check=False, capture_output=True)


def open_homes(machine: Machine) -> str:
    """What a unit needs where this very interpreter lies in a home folder, as it does under pyenv; else nothing."""
    if not sys.base_prefix.startswith(_HOMES):
        return ""
    home = Path(*Path(sys.base_prefix).parts[:2])
    machine.run("chmod", "o+x", str(home))
    return "ProtectHome=read-only\n"
