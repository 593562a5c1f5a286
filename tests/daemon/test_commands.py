"""`bise serve` as a real process: what it says, how it ends, what it leaves."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bise import Client
from bise_export.signing import sign
from golden.keys import write_keys

pytestmark = pytest.mark.slow

SERVE = (sys.executable, "-m", "bise", "serve")
_PATIENCE_S = 60


class Process:
    """A daemon of its own. Its log is read line by line, so that waiting for it is waiting for a line."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*SERVE, *arguments], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self.log: list[str] = []

    def until(self, words: str) -> str:
        """The next line of the log with these words in it."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            if words in line:
                return line
        raise AssertionError(f"ended without {words!r}: {self.log}")

    def signal(self, signal_number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(signal_number)

    def end(self, signal_number: int) -> int:
        """Sends a signal; the exit code."""
        self._process.send_signal(signal_number)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once there is one."""
        _, rest = self._process.communicate(timeout=_PATIENCE_S)
        self.log += rest.splitlines(keepends=True)
        return self._process.returncode

    def clean_up(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self.wait()


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    started = Process(*arguments)
    try:
        yield started
    finally:
        started.clean_up()


def refusal(*arguments: str) -> list[str]:
    """The lines a daemon says when it can't serve; its exit code is 1."""
    with process(*arguments) as daemon:
        assert daemon.wait() == 1
    return [line.rstrip("\n") for line in daemon.log if " INFO " not in line]


def one_line(*arguments: str) -> str:
    lines = refusal(*arguments)
    assert len(lines) == 1, lines
    assert lines[0].startswith("bise serve: ")
    return lines[0]


def test_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    line = one_line("--bundle", str(tmp_path / "nothing"), "--listen", f"unix://{tmp_path}/bise.sock")
    assert "nothing: not a bundle: expected a file bundle.json, found none. Make one with `bise export`." in line
    assert not (tmp_path / "bise.sock").exists()


def test_a_flipped_byte_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_bundle, tmp_path / "broken")
    data = bytearray((broken / "model.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (broken / "model.onnx.data").write_bytes(data)
    line = one_line("--bundle", str(broken), "--listen", f"unix://{tmp_path}/bise.sock")
    assert "model.onnx.data: expected sha256" in line
    assert "Copy the bundle again." in line
    assert not (tmp_path / "bise.sock").exists()


def test_a_bundle_that_nobody_trusted_signed_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path, "ours")
    config = tmp_path / "bise.yaml"
    config.write_text(
        f"bundle: {tiny_bundle}\nlisten: unix://{tmp_path}/bise.sock\nstate_dir: state\n"
        "trusted_keys: [ours.pub.pem]\nrequire_signature: true\n"
    )
    assert "expected a signature, bundle.sig, by a trusted key, got none." in one_line("--config", str(config))
    folder = shutil.copytree(tiny_bundle, tmp_path / "signed")
    sign(folder, keys.private, lambda: "")
    with process("--config", str(config), "--bundle", str(folder)) as daemon:
        daemon.until(f"tiny 1 is signed by {keys.public}")
        daemon.until("serving tiny")
        assert daemon.end(signal.SIGTERM) == 0


def test_a_stop_ends_a_load_and_what_packs_for_it(tiny_bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "bise.yaml"
    config.write_text(f"bundle: {tiny_bundle}\nlisten: unix://{tmp_path}/bise.sock\nspecialise: always\nstate_dir: s\n")
    with process("--config", str(config)) as daemon:
        daemon.until("packing weights for this device")
        assert daemon.end(signal.SIGTERM) == 0
    assert list((tmp_path / "s" / "specialised").iterdir()) == []
    assert not (tmp_path / "bise.sock").exists()


def test_a_hang_up_reads_the_configuration_again(tiny_bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "bise.yaml"
    settings = f"bundle: {tiny_bundle}\nlisten: unix://{tmp_path}/bise.sock\nstate_dir: s\n"
    config.write_text(settings)
    with process("--config", str(config)) as daemon:
        daemon.until("serving tiny")
        config.write_text(f"{settings}slotz: 3\n")
        daemon.signal(signal.SIGHUP)
        assert f"the configuration stays as it was: {config}:4: slotz: expected a known key" in daemon.until("stays")
        config.write_text(f"{settings}default_timeout_s: 9\n")
        daemon.signal(signal.SIGHUP)
        daemon.until("read again: default_timeout_s 9.0")
        assert daemon.end(signal.SIGTERM) == 0


def test_every_problem_of_a_configuration_is_a_line_of_its_own(tiny_bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "bise.yaml"
    config.write_text(f"bundle: {tiny_bundle}\nslotz: 3\nslots: 0\ncontext: many\nlisten: http://x\n")
    lines = refusal("--config", str(config))
    assert all(line.startswith(f"bise serve: {config}:") for line in lines)
    for line, (number, key) in zip(lines, enumerate(["slotz", "slots", "context", "listen"], 2), strict=True):
        assert f":{number}: {key}: expected " in line
        assert ", got " in line


def test_a_flag_out_of_its_range_is_named(tiny_bundle: Path) -> None:
    assert "--slots: expected a whole number of requests at once" in one_line(
        "--bundle", str(tiny_bundle), "--slots", "0"
    )


def test_a_port_others_can_reach_is_refused(tiny_bundle: Path) -> None:
    line = one_line("--bundle", str(tiny_bundle), "--listen", "tcp://0.0.0.0:0")
    assert "--listen: expected an address only this machine can reach" in line


def test_a_port_in_use_is_one_line(tiny_bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        lines = refusal("--bundle", str(tiny_bundle), "--listen", f"tcp://127.0.0.1:{port}")
    # gRPC's own core logs a line as well; the last is ours.
    assert lines[-1].startswith(f"bise serve: tcp://127.0.0.1:{port}: can't listen")
    assert lines[-1].endswith("Choose another address with --listen.")


def test_a_socket_in_use_is_one_line_and_the_first_daemon_serves_on(tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ("--bundle", str(tiny_bundle), "--listen", f"unix://{tmp_path}/bise.sock")
    with process(*arguments) as first:
        first.until("serving tiny")
        assert "another daemon serves this address" in one_line(*arguments)
        with Client(f"unix://{tmp_path}/bise.sock") as client:
            assert client.generate("Hi", max_tokens=1, ignore_eos=True).usage.completion_tokens == 1


def test_a_file_in_the_way_is_left_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.write_text("dear diary")
    assert "expected a socket or nothing there" in one_line("--bundle", str(tiny_bundle), "--listen", f"unix://{diary}")
    assert diary.read_text() == "dear diary"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tiny_bundle: Path, tmp_path: Path, signal_number: signal.Signals) -> None:
    path = tmp_path / "bise.sock"
    with process("--bundle", str(tiny_bundle), "--listen", f"unix://{path}") as daemon:
        daemon.until("serving tiny")
        assert path.is_socket()
        assert daemon.end(signal_number) == 0
    assert not path.exists()
    assert not any("Traceback" in line or "ERROR" in line for line in daemon.log)


def test_a_signal_while_it_loads_ends_it_cleanly(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bise.sock"
    with process("--bundle", str(tiny_bundle), "--listen", f"unix://{path}") as daemon:
        daemon.until("listening on")
        assert daemon.end(signal.SIGTERM) == 0
    assert not path.exists()


def test_after_a_kill_the_same_socket_serves_again(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bise.sock"
    arguments = ("--bundle", str(tiny_bundle), "--listen", f"unix://{path}")
    with process(*arguments) as first:
        first.until("serving tiny")
        first.end(signal.SIGKILL)
    assert path.is_socket()
    with process(*arguments) as second:
        second.until("serving tiny")
        with Client(f"unix://{path}") as client:
            assert client.generate("Hi", max_tokens=1, ignore_eos=True).usage.completion_tokens == 1
        assert second.end(signal.SIGTERM) == 0
    assert not path.exists()


def test_the_default_address_is_the_users_own_socket(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("BISE_ADDRESS", raising=False)
    with process("--bundle", str(tiny_bundle)) as daemon:
        assert f"listening on unix://{tmp_path}/bise.sock" in daemon.until("listening on")
        daemon.until("serving tiny")
        with Client() as client:
            assert client.status().model == "tiny"
        assert daemon.end(signal.SIGTERM) == 0


def test_a_port_of_its_own_choice_is_told(tiny_bundle: Path) -> None:
    with process("--bundle", str(tiny_bundle), "--listen", "tcp://127.0.0.1:0") as daemon:
        address = daemon.until("listening on").split()[-1]
        assert not address.endswith(":0")
        daemon.until("serving tiny")
        with Client(address) as client:
            assert client.status().model == "tiny"
        assert daemon.end(signal.SIGTERM) == 0
