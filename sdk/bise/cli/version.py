"""`bise version`: what is installed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import typer

_RELATED = ("grpcio", "onnxruntime", "onnxruntime-gpu", "onnx-ir", "mistral-common", "tokenizers")


def version() -> None:
    """Print the versions of bise and of what it runs on."""
    typer.echo(f"bise {installed_version('bise')}")
    typer.echo(f"python {platform.python_version()}")
    for name in _RELATED:
        try:
            typer.echo(f"{name} {installed_version(name)}")
        except PackageNotFoundError:
            continue
