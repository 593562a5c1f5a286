"""An accuracy report of a bundle that is published already: into its manifest, in place of the one there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from google.protobuf import json_format

from bise_export.errors import ExportError
from bise_proto.bundle import MANIFEST, manifest_bytes
from bise_proto.trust.signature import SIGNATURE
from bise_proto.v1 import bundle_pb2


def store(folder: Path, measured: bytes, accuracy: bundle_pb2.Accuracy) -> None:
    """Replaces the manifest by one with this report, in one rename; all else that it says stays, known here or not.

    A daemon's calibration and prefixes are bound to the manifest's bytes, so these stay where they say it already.

    Args:
        folder: the bundle, which was verified.
        measured: its manifest's bytes before that.

    Raises:
        ExportError: the bundle is signed, and its manifest with it; it was replaced meanwhile; or it can't be written.
    """
    folder = folder.resolve()
    path = folder / MANIFEST
    if (folder / SIGNATURE).exists():
        raise ExportError(
            f"{folder} is signed, and its manifest with it. To store the report, remove {SIGNATURE}, verify again, "
            "and sign the bundle again."
        )
    if manifest_bytes(folder) != measured:
        raise ExportError(f"{path}: expected the manifest that was verified, got another: verify again.")
    values = json.loads(measured)
    report = json_format.MessageToDict(accuracy, preserving_proto_field_name=True)
    if values.get("accuracy") == report:
        return
    content = json.dumps(values | {"accuracy": report}, indent=2) + "\n"
    draft = folder.with_name(f".{folder.name}.json")  # beside the folder, in which nothing unlisted may be left
    try:
        try:
            draft.unlink(missing_ok=True)
            with draft.open("x", encoding="utf-8") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            shutil.copymode(path, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"{path}: can't be replaced: {error.strerror}. Verify a copy that you may change, or give --no-store."
        ) from error
