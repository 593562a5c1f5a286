"""What kind of checkpoint a path is, by the files that are there."""

from __future__ import annotations

from pathlib import Path

from bise_export.errors import SourceError, UnsupportedError
from bise_export.sources import huggingface, mistral
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.gguf import open_gguf

_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_EXPECTED = (
    "a .gguf file, or a folder with config.json and model.safetensors (or model.safetensors.index.json), "
    "or with params.json and consolidated*.safetensors"
)
_SHOWN = 8


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, of whatever kind; weights are read when asked for. No file is ever unpickled.

    In a folder that holds a model in two forms, Hugging Face's is read before Mistral's own, and both before GGUF.

    Raises:
        SourceError: there is no checkpoint, or it is broken; the message names the file, expected and found.
        UnsupportedError: the checkpoint is sound, but asks for something bise does not do.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise SourceError(f"{path}: expected {_EXPECTED}; there is no such file or folder. Check the path.")
    if path.suffix == ".gguf":
        return open_gguf(path)
    _refuse_pickles([path])
    folder = f" Give its folder, {path.parent}." if path.suffix in (".safetensors", ".json") else ""
    raise SourceError(f"{path}: expected {_EXPECTED}; got a {path.suffix or 'nameless'} file.{folder}")


def _open_folder(folder: Path) -> Checkpoint:
    if (folder / huggingface.CONFIG).is_file() and any(
        (folder / name).is_file() for name in (huggingface.WEIGHTS, huggingface.INDEX)
    ):
        return huggingface.open_huggingface(folder)
    if (folder / mistral.PARAMS).is_file() and any(folder.glob(mistral.WEIGHTS)):
        return mistral.open_mistral(folder)
    files = sorted(file for file in folder.iterdir() if file.is_file())
    ggufs = [file for file in files if file.suffix == ".gguf"]
    if ggufs and (len(ggufs) == 1 or "-00001-of-" in ggufs[0].name):
        return open_gguf(ggufs[0])
    if ggufs:
        raise SourceError(f"{folder}: expected one .gguf file, got {len(ggufs)}: {_listed(ggufs)}. Give one of them.")
    _refuse_pickles(files)
    raise SourceError(
        f"{folder}: expected {_EXPECTED}; got {_listed(files)}. Check the path, or get the missing files."
    )


def _refuse_pickles(files: list[Path]) -> None:
    if pickles := [file for file in files if file.suffix in _PICKLE_SUFFIXES]:
        raise UnsupportedError(
            f"{pickles[0]}: expected safetensors or GGUF, got a pickle, which can run code when it is read. "
            "Convert to safetensors on a machine that may run it, and export that."
        )


def _listed(files: list[Path]) -> str:
    names = ", ".join(file.name for file in files[:_SHOWN])
    return (names + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")) or "no files"
