"""`bise demo`: the whole road on a real model, in the order of `demo`."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bise.cli.chat import talk_by_lines, talk_in_terminal
from bise.cli.conversation import Conversation
from bise.cli.daemon_process import DaemonProcess
from bise.cli.message import fail
from bise.cli.model_cache import SMOLLM2, cache_folder, fetch
from bise.client import Client
from bise.options import Options
from bise.types import Result, Status
from bise_proto.bundle import BundleError, read_manifest
from bise_proto.v1 import bundle_pb2

QUESTION = "What is the capital of France?"
_PRECISION = "int4"


def demo(
    chat: Annotated[bool, typer.Option("--chat", help="Leave a prompt open afterwards.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Export again, even when a bundle is cached.")] = False,
) -> None:
    """Fetch a small real model, export it, serve it, ask it a question, and show the figures."""
    # A demo that is told to end takes its daemon along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(highlight=False, soft_wrap=True)
    cache = cache_folder()
    bundle = cache / "bundles" / f"{SMOLLM2.file_name.partition('.')[0]}-{_PRECISION}"

    _step(console, "model", f"{SMOLLM2.file_name} in {cache}")
    gguf = fetch(SMOLLM2, cache / "models")

    _step(console, "bundle", str(bundle))
    manifest = None if fresh else reusable(bundle, SMOLLM2.sha256)
    if manifest is None:
        manifest = export(gguf, bundle)

    _step(console, "daemon", "loading")
    with DaemonProcess(bundle, cache / "demo-daemon.log") as daemon:
        with Client(daemon.address) as client:
            result = ask(client, console)
            console.print(figures(manifest, client.status(), result))
            if chat:
                open_chat(client, console)
        daemon.stop()
    _step(console, "daemon", "stopped cleanly")


def reusable(bundle: Path, source_sha256: str) -> bundle_pb2.Bundle | None:
    """The manifest of a cached bundle; None when it is not whole, of another bise, or of another model file."""
    from importlib.metadata import version

    try:
        manifest = read_manifest(bundle)
    except (BundleError, OSError):
        return None
    sizes_match = all(
        (bundle / file.path).is_file() and (bundle / file.path).stat().st_size == file.size_bytes
        for file in manifest.files
    )
    same_bise = manifest.provenance.tools.get("bise") == version("bise")
    same_source = [file.sha256 for file in manifest.provenance.source_files] == [source_sha256]
    return manifest if sizes_match and same_bise and same_source else None


def export(gguf: Path, bundle: Path) -> bundle_pb2.Bundle:
    """Exports the model with `bise export`, which shows its own progress; what was there before goes.

    Raises:
        Exit: the export failed.
    """
    if bundle.exists():
        shutil.rmtree(bundle)
    bundle.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bise", "export", str(gguf), str(bundle), "--precision", _PRECISION]
    command += ["--name", gguf.name.partition(".")[0]]
    ended = subprocess.run(command, check=False)  # noqa: S603 - our own command
    if ended.returncode:
        fail(f"bise export: expected exit code 0, got {ended.returncode}. Its own words are above.")
    try:
        return read_manifest(bundle)
    except BundleError as error:
        fail(str(error))


def ask(client: Client, console: Console) -> Result:
    """Asks the demo's question, greedily, showing the answer as it comes."""
    console.print(f"\n[bold cyan]>[/] {QUESTION}")
    options = Options(max_tokens=64, temperature=0.0)
    conversation = Conversation(client, console, system=None, options=options, show_timings=False)
    result = conversation.say(QUESTION)
    if result is None:
        fail("the answer was stopped")
    return result


def open_chat(client: Client, console: Console) -> None:
    """A prompt on the demo's daemon, until the person leaves."""
    conversation = Conversation(client, console, system=None, options=Options(), show_timings=False)
    talk = talk_in_terminal if sys.stdin.isatty() else talk_by_lines
    talk(conversation, console)


def figures(manifest: bundle_pb2.Bundle, status: Status, result: Result) -> Table:
    """The figures of the run, as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    size_bytes = sum(file.size_bytes for file in manifest.files)
    for name, value in {
        "bundle": f"{size_bytes / 1e6:.1f} MB",
        "bits per weight": f"{manifest.quantization.bits_per_weight:.2f}",
        "load": f"{status.load_ms:.0f} ms",
        "first token": f"{result.timings.first_token_ms:.0f} ms",
        "decode": f"{result.timings.tokens_per_second:.1f} tokens/s",
        "peak memory": f"{status.peak_rss_bytes / 1e6:.0f} MB",
        "context limit": f"{status.context_limit} tokens",
    }.items():
        table.add_row(name, value)
    return table


def _step(console: Console, name: str, what: str) -> None:
    console.print(f"[dim]{name:>8}[/]  {what}")
