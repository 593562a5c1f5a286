from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, version
from types import ModuleType

import pytest
from typer.testing import Result

from bise.cli import app as app_module
from bise.cli.lazy import LazyCommands
from bise.cli.message import missing_extra

Run = Callable[..., Result]


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A part of bise that is not this one, with a command of its own."""
    module = ModuleType("bise_export.fake_commands")

    def greet(name: str, loud: bool = False) -> None:
        """Greet somebody."""
        if name == "nobody":
            raise FileNotFoundError(2, "No such file", name)
        if name == "gpu":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        if name == "key":
            raise ModuleNotFoundError("No module named 'model_signing'", name="model_signing.signing")
        if name == "bug":
            raise ModuleNotFoundError("No module named 'bise_export.mistake'", name="bise_export.mistake")
        print(f"hello {name}{'!' if loud else ''}")

    module.greet = greet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def registered(part: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part's command, one whose part lacks a library, one that is broken, and one that would replace ours."""
    group = app_module.GROUP
    points = [
        EntryPoint("greet", f"{part.__name__}:greet", group),
        EntryPoint("lacking", "bise_daemon.no_such_command:run", group),
        EntryPoint("version", f"{part.__name__}:greet", group),
    ]
    monkeypatch.setattr(app_module, "entry_points", lambda group: points)


def test_version_tells_what_is_installed(run: Run) -> None:
    told = run("version")
    assert told.exit_code == 0
    assert told.stdout.splitlines()[0] == f"bise {version('bise')}"


@pytest.mark.usefixtures("registered")
def test_a_part_registers_its_command(run: Run) -> None:
    told = run("greet", "you", "--loud")
    assert (told.exit_code, told.stdout) == (0, "hello you!\n")
    assert "Greet somebody." in run("greet", "--help").stdout


@pytest.mark.usefixtures("registered")
def test_help_lists_every_command_even_one_that_can_not_be_had(run: Run) -> None:
    told = run("--help")
    assert told.exit_code == 0
    for name in ("demo", "chat", "generate", "health", "version", "greet", "lacking"):
        assert name in told.stdout
    assert "Greet somebody." in told.stdout


@pytest.mark.usefixtures("registered")
def test_our_own_commands_are_not_replaced(run: Run) -> None:
    assert run("version").stdout.startswith("bise ")


def lacking_tokenizers(_self: EntryPoint) -> object:
    raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("arguments", [[], ["--anything", "x"], ["--help"]])
def test_a_missing_extra_is_one_sentence_with_its_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(EntryPoint, "load", lacking_tokenizers)
    told = run("lacking", *arguments)
    assert told.exit_code == 1
    assert told.stdout == ""
    assert told.stderr == ("error: this command needs tokenizers, which is not installed: pip install 'bise[daemon]'\n")


@pytest.mark.usefixtures("registered")
def test_a_broken_installation_is_not_called_a_missing_extra(run: Run) -> None:
    told = run("lacking")
    assert told.exit_code == 1
    assert "can't load bise_daemon.no_such_command:run" in told.stderr
    assert "pip install" not in told.stderr


@pytest.mark.usefixtures("registered")
def test_an_expected_error_is_one_line(run: Run) -> None:
    told = run("greet", "nobody")
    assert told.exit_code == 1
    assert told.stderr == "error: [Errno 2] No such file: 'nobody'\n"


@pytest.mark.usefixtures("registered")
def test_a_library_missing_while_running_names_its_own_extra(run: Run) -> None:
    assert "pip install 'bise[cpu]'" in run("greet", "gpu").stderr


@pytest.mark.usefixtures("registered")
def test_a_library_missing_while_running_names_its_parts_extra(run: Run) -> None:
    told = run("greet", "key")
    assert told.exit_code == 1
    assert told.stderr.endswith("needs model_signing, which is not installed: pip install 'bise[export]'\n")


@pytest.mark.usefixtures("registered")
def test_our_own_bug_keeps_its_traceback(run: Run) -> None:
    assert isinstance(run("greet", "bug").exception, ModuleNotFoundError)


def test_a_typing_mistake_is_corrected(run: Run) -> None:
    told = run("helth")
    assert told.exit_code == 2
    assert "Did you mean 'health'" in told.stderr


def test_listing_commands_imports_none_of_them() -> None:
    commands = LazyCommands([EntryPoint("x", "no_such_module:x", "g")])
    assert list(commands) == ["x"]
    assert len(commands) == 1


@pytest.mark.parametrize(
    ("module", "part", "extra"),
    [
        ("onnxruntime", "bise_export", "cpu"),
        ("gguf.quants", "bise_export", "export"),
        ("jinja2", "bise_daemon", "daemon"),
    ],
)
def test_a_missing_module_belongs_to_an_extra(module: str, part: str, extra: str) -> None:
    sentence = missing_extra(ModuleNotFoundError(name=module), part)
    assert sentence.endswith(f"pip install 'bise[{extra}]'")


@pytest.mark.parametrize(("module", "part"), [("bise_export.x", "bise_export"), ("gguf", "somebody_else"), (None, "")])
def test_a_module_of_nobodys_extra_is_a_bug(module: str | None, part: str) -> None:
    assert missing_extra(ModuleNotFoundError(name=module), part) == ""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_without_typer_the_command_is_one_sentence() -> None:
    ended = python("import sys; sys.modules['typer'] = None; from bise.cli import main; main()")
    assert ended.returncode == 1
    assert ended.stderr == "The bise command needs typer and rich: pip install 'bise[cli]'\n"


@pytest.mark.slow
def test_a_quick_command_imports_no_heavy_part() -> None:
    code = """
import sys
from bise.cli.app import app
app(["version"], standalone_mode=False)
print(sorted({"grpc", "numpy", "onnxruntime", "rich", "bise_export", "bise_daemon"} & set(sys.modules)))
"""
    assert python(code).stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_python_dash_m_is_the_same_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "bise", "version"], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith(f"bise {version('bise')}\n")
