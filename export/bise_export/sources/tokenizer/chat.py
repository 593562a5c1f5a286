"""Chat templates, and the special tokens they name."""

from __future__ import annotations

import json
from pathlib import Path

from bise_export.errors import SourceError
from bise_export.sources.tokenizer.source import FOLDER
from bise_proto.v1 import bundle_pb2

_TEMPLATE, _SPECIAL_TOKENS = "chat_template.jinja", "special_tokens.json"
_LIMIT_BYTES = 1 << 20


def write_chat(
    bundle: Path, template: str | None, bos_token: str | None, eos_token: str | None
) -> bundle_pb2.ChatFormat:
    """Writes the template and `special_tokens.json` (bos_token and eos_token, as templates call them) into `bundle`.

    Without a template the model is a base model, and nothing is written.

    Raises:
        SourceError: the template is larger than any real one.
    """
    if template is None:
        return bundle_pb2.NONE
    _check_size(len(template.encode()), "chat template")
    (bundle / FOLDER / _TEMPLATE).write_text(template, encoding="utf-8", newline="")
    special_tokens = {"bos_token": bos_token, "eos_token": eos_token}
    (bundle / FOLDER / _SPECIAL_TOKENS).write_text(json.dumps(special_tokens, indent=2) + "\n", encoding="utf-8")
    return bundle_pb2.JINJA


def read_template(file: Path) -> str:
    """The template in `file`, its line ends as they are.

    Raises:
        SourceError: it is larger than any real one, or no UTF-8.
    """
    _check_size(file.stat().st_size, str(file))
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{file}: expected UTF-8, got {error}. Get the file again.") from error


def chosen_template(written: object, where: str) -> str | None:
    """The template among what a checkpoint has: one text, a list of named ones ("default" is chosen), or None.

    Raises:
        SourceError: it is something else, or none of the named ones is "default".
    """
    match written:
        case None | str():
            return written
        case list():
            named = {entry.get("name"): entry.get("template") for entry in written if isinstance(entry, dict)}
            if isinstance(template := named.get("default"), str):
                return template
            got = f"templates named {', '.join(map(repr, named))}"
        case _:
            got = type(written).__name__
    raise SourceError(f"{where}: chat_template: expected text or a template named 'default', got {got:.80}.")


def _check_size(size_bytes: int, what: str) -> None:
    if size_bytes > _LIMIT_BYTES:
        raise SourceError(
            f"{what}: expected at most {_LIMIT_BYTES} bytes, got {size_bytes}. Get the checkpoint's files again."
        )
