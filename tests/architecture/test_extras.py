"""What each part imports is what installing it brings."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

# Distribution by what is imported from it; longer names go before shorter ones.
_DISTRIBUTIONS = {
    "anyio": "anyio",
    "cryptography": "cryptography",
    "gguf": "gguf",
    "google.protobuf": "protobuf",
    "google.rpc": "grpcio-status",  # through googleapis-common-protos, which it is made for
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "jinja2": "jinja2",
    "llguidance": "llguidance",
    "mistral_common": "mistral-common",
    "ml_dtypes": "ml-dtypes",
    "model_signing": "model-signing",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxruntime": "onnxruntime",
    "opentelemetry.proto": "opentelemetry-proto",
    "packaging": "packaging",
    "prometheus_client": "prometheus-client",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic",  # which pins it to its own version
    "rich": "rich",
    "safetensors": "safetensors",
    "starlette": "starlette",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "typer": "typer",
    "uvicorn": "uvicorn",
    "yaml": "pyyaml",
}
_PARTS = ("bise", "bise_daemon", "bise_export", "bise_proto")
# What a part may count on: its extras, beside the base. The command line is one of the SDK's folders.
_EXTRAS = {
    "bise.cli": ("cli",),
    "bise_daemon.http": ("http", "cpu"),
    "bise_daemon.telemetry": ("daemon", "telemetry"),
    "bise_daemon": ("daemon", "cpu"),
    "bise_export": ("export", "cpu"),
    "bise_proto.trust": ("daemon",),  # and by export just as well
}
# Extras that are made of another and some more.
_INCLUDED = {"daemon": "cli", "export": "cli", "http": "daemon", "telemetry": "daemon"}
# Brought for a library that does not say that it needs them.
_FOR_OTHERS = {"pyopenssl"}
# A module that asks whether the distribution is there, and says what to install if it is not.
_OPTIONAL = {
    ("bise_export.prompts", "mistral-common"),
    ("bise_export.oracle", "torch"),
    ("bise_export.oracle", "transformers"),
}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return found


def third_party(source: Any) -> Iterator[str]:
    """The distributions a module imports from."""
    for name in source.imports:
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top in _PARTS:
            continue
        known = [prefix for prefix in _DISTRIBUTIONS if f"{name}.".startswith(f"{prefix}.")]
        if known:
            yield _DISTRIBUTIONS[max(known, key=len)]
        elif not any(prefix.startswith(f"{name}.") for prefix in _DISTRIBUTIONS):
            pytest.fail(f"{source.name} imports {name}: say in _DISTRIBUTIONS what brings it")


def brought(project: dict[str, Any], extra: str | None) -> set[str]:
    """The distributions that the base, or an extra with those it includes, asks for."""
    asked = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    found = set()
    for requirement in asked:
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
        assert match
        if match[1] == project["name"]:
            for included in match[2].split(","):
                found |= brought(project, included)
        else:
            found.add(match[1].lower())
    return found


def extras_of(source: Any) -> tuple[str, ...]:
    return next((extras for part, extras in _EXTRAS.items() if f"{source.name}.".startswith(f"{part}.")), ())


def test_what_is_imported_is_brought(sources: Any, project: dict[str, Any]) -> None:
    missing = {
        (source.name, distribution)
        for source in sources
        for distribution in third_party(source)
        if (source.name, distribution) not in _OPTIONAL
        and distribution not in brought(project, None).union(*(brought(project, extra) for extra in extras_of(source)))
    }
    assert not missing


@pytest.mark.parametrize(
    ("extra", "parts"),
    [
        (None, _PARTS),
        ("cli", ("bise.cli",)),
        ("daemon", ("bise_daemon", "bise_proto.trust")),
        ("http", ("bise_daemon.http",)),
        ("telemetry", ("bise_daemon",)),
        ("export", ("bise_export", "bise_proto.trust")),
    ],
)
def test_what_is_brought_is_imported(
    sources: Any, project: dict[str, Any], extra: str | None, parts: tuple[str, ...]
) -> None:
    imported = {
        distribution
        for source in sources
        if f"{source.name}.".startswith(tuple(f"{part}." for part in parts))
        for distribution in third_party(source)
    }
    included = brought(project, _INCLUDED[extra]) if extra in _INCLUDED else set()
    assert brought(project, extra) - included - imported - _FOR_OTHERS == set()


@pytest.mark.parametrize("extra", ["daemon", "export"])
def test_what_trust_needs_is_brought_to_both_ends(sources: Any, project: dict[str, Any], extra: str) -> None:
    trust = [source for source in sources if source.name.startswith("bise_proto.trust.")]
    assert len(trust) == 3
    assert {each for source in trust for each in third_party(source)} <= brought(project, None) | brought(
        project, extra
    )


def test_commands_are_where_the_project_says(project: dict[str, Any]) -> None:
    said = project["entry-points"]["bise.commands"]
    assert set(said) == {point.name for point in entry_points(group="bise.commands")}, "install again"
    for point in entry_points(group="bise.commands"):
        assert callable(point.load())


def test_the_constraints_pin_every_distribution_once(root: Path, project: dict[str, Any]) -> None:
    pinned = re.findall(r"(?m)^([\w.-]+)==\S+", (root / "constraints.txt").read_text())
    names = [name.lower().replace("_", "-") for name in pinned]
    assert len(names) == len(set(names))
    wanted = brought(project, None).union(
        *(brought(project, extra) for extra in ("daemon", "telemetry", "export", "cpu", "dev"))
    )
    assert wanted - set(names) == set()
