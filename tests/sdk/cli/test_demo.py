from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from google.protobuf import json_format
from typer.testing import Result

from bise.cli import demo
from bise.cli.daemon_process import DaemonProcess
from bise.cli.model_cache import SMOLLM2
from bise_proto import bundle as manifests
from bise_proto.v1 import bundle_pb2

Run = Callable[..., Result]
FAKE_SERVE = Path(__file__).with_name("fake_serve.py")


def write_bundle(folder: Path, **changes: object) -> bundle_pb2.Bundle:
    """A bundle that is whole as far as the demo looks: a manifest, and files of the right size."""
    folder.mkdir(parents=True)
    names = ("model.onnx", "model.onnx.data", "tokenizer/tokenizer.json")
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    manifest = bundle_pb2.Bundle(
        format_version=manifests.FORMAT_VERSION,
        graph=bundle_pb2.Graph(model_file=names[0], weight_files=[names[1]]),
        tokenizer=bundle_pb2.Tokenizer(file=names[2]),
        quantization=bundle_pb2.Quantization(bits_per_weight=4.53),
        files=[manifests.describe(folder, name) for name in names],
        provenance=bundle_pb2.Provenance(
            tools={"bise": str(changes.get("bise", version("bise")))},
            source_files=[bundle_pb2.File(path="x.gguf", sha256=str(changes.get("source", SMOLLM2.sha256)))],
        ),
    )
    (folder / manifests.MANIFEST).write_text(json_format.MessageToJson(manifest, preserving_proto_field_name=True))
    return manifest


def test_a_whole_bundle_of_this_bise_and_model_is_used_again(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "b")
    assert demo.reusable(tmp_path / "b", SMOLLM2.sha256) == manifest


@pytest.mark.parametrize("changes", [{"bise": "0.0.9"}, {"source": "0" * 64}])
def test_a_bundle_of_another_making_is_not(tmp_path: Path, changes: dict[str, object]) -> None:
    write_bundle(tmp_path / "b", **changes)
    assert demo.reusable(tmp_path / "b", SMOLLM2.sha256) is None


def test_a_bundle_that_is_not_whole_is_not(tmp_path: Path) -> None:
    assert demo.reusable(tmp_path / "b", SMOLLM2.sha256) is None
    write_bundle(tmp_path / "b")
    (tmp_path / "b" / "model.onnx.data").write_text("short")
    assert demo.reusable(tmp_path / "b", SMOLLM2.sha256) is None
    (tmp_path / "b" / "model.onnx.data").unlink()
    assert demo.reusable(tmp_path / "b", SMOLLM2.sha256) is None
    (tmp_path / "b" / "bundle.json").write_text("{")
    assert demo.reusable(tmp_path / "b", SMOLLM2.sha256) is None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache with the model in place, an export that writes at once, and a stand-in for the daemon."""
    monkeypatch.setenv("BISE_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "fetch", lambda model, folder: folder / model.file_name)
    monkeypatch.setattr(demo, "export", lambda gguf, bundle: write_bundle(bundle))
    use_daemon(monkeypatch, "well")
    terminate = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, terminate)


def use_daemon(monkeypatch: pytest.MonkeyPatch, behaviour: str) -> None:
    command = [sys.executable, str(FAKE_SERVE), behaviour]
    monkeypatch.setattr(demo, "DaemonProcess", partial(DaemonProcess, command=command))


@pytest.mark.slow
def test_the_demo_answers_and_shows_its_figures(run: Run, cache: Path) -> None:
    told = run("demo")
    assert told.exit_code == 0, told.output
    assert f"> {demo.QUESTION}\nIt is Paris.\n" in told.stdout
    for figure in ("4.53", "12 ms", "50 MB", "2048 tokens", "tokens/s"):
        assert figure in told.stdout
    assert told.stdout.splitlines()[-1].split() == ["daemon", "stopped", "cleanly"]
    assert (cache / "bundles" / "SmolLM2-135M-Instruct-int4" / "bundle.json").is_file()


@pytest.mark.slow
def test_a_second_demo_exports_nothing(run: Run, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(cache / "bundles" / "SmolLM2-135M-Instruct-int4")
    monkeypatch.setattr(demo, "export", None)
    assert run("demo").exit_code == 0


@pytest.mark.slow
def test_the_demo_leaves_a_prompt_open_when_asked_to(run: Run, cache: Path) -> None:
    told = run("demo", "--chat", stdin="And of Italy?\n")
    assert told.exit_code == 0
    assert told.stdout.count("It is Paris.") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("behaviour", "words"), [("crash", "the bundle is broken"), ("fail", "got 3")])
def test_the_demo_fails_when_its_daemon_does(
    run: Run, cache: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, words: str
) -> None:
    use_daemon(monkeypatch, behaviour)
    told = run("demo")
    assert told.exit_code == 1
    assert words in told.stderr


def test_an_export_that_fails_ends_the_demo(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("BISE_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "fetch", lambda model, folder: folder / model.file_name)
    monkeypatch.setattr(demo.sys, "executable", "/bin/false")
    old = tmp_path / "bundles" / "SmolLM2-135M-Instruct-int4"
    old.mkdir(parents=True)
    told = run("demo")
    assert told.exit_code == 1
    assert "bise export: expected exit code 0, got 1" in told.stderr
    assert not old.exists()
