"""`bise inspect`, `bise verify` and `bise sign`: what is done with a finished bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bise_export.errors import ExportError
from bise_export.one_line import one_line_errors
from bise_proto.v1 import bundle_pb2

Folder = Annotated[Path, typer.Argument(help="A bundle's folder.")]


def inspect(
    bundle: Folder,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest itself.")] = False,
) -> None:
    """Show what a bundle is: the model, what its weights and cache take and lost, which key its signature names."""
    from google.protobuf import json_format
    from rich.console import Console

    from bise_export.inspection import render
    from bise_proto.bundle import read_manifest
    from bise_proto.trust.signature import SIGNATURE, claimed_identity

    with one_line_errors("inspect"):
        found = read_manifest(bundle)
        if json:
            typer.echo(json_format.MessageToJson(found, preserving_proto_field_name=True))
            return
        signature = bundle / SIGNATURE
        signer = claimed_identity(signature) if signature.is_file() else None
    Console().print(render(found, bundle, signer))


def verify(
    bundle: Folder,
    against: Annotated[Path | None, typer.Option(help="The checkpoint it was made from, to measure accuracy.")] = None,
    trusted_key: Annotated[
        list[Path] | None,
        typer.Option(help="A public key in PEM; one of those given must have signed the bundle. May be repeated."),
    ] = None,
    numpy: Annotated[
        bool, typer.Option("--numpy", help="Measure against bise's own reference even where transformers is installed.")
    ] = False,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Whether the accuracy measured goes into the bundle's manifest.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for programs.")] = False,
) -> None:
    """Prove a bundle's signature and hashes, that its graph computes what it says, and what quantization cost.

    A signature is proved with --trusted-key only, and before anything else of the bundle is read. Accuracy of a folder
    in Hugging Face's form is measured against transformers, if the extra `reference` is installed. It is stored in the
    manifest, unless the bundle is signed, or wrong.
    """
    from json import dumps

    from rich.console import Console

    from bise_export.oracle import bounded, independent
    from bise_export.report import render_report, report_json
    from bise_export.sources.open import open_checkpoint
    from bise_export.verify import verify as run
    from bise_proto.bundle import manifest_bytes, parse_manifest

    console = Console(stderr=True)
    with one_line_errors("verify"), console.status("reading the bundle") as status:
        if trusted_key:
            manifest, found, signer = _signed(bundle, trusted_key)
        else:
            manifest, signer = manifest_bytes(bundle), None
            found = parse_manifest(bundle, manifest)
        checkpoint = None if against is None else open_checkpoint(against)
        report = run(bundle, checkpoint, status.update, bounded if numpy else independent)
    stored = (
        store and report.accuracy is not None and not report.problems and _stored(bundle, manifest, report.accuracy)
    )
    if json:
        typer.echo(dumps(report_json(report, found, signer, stored=stored), indent=2))
    else:
        Console().print(render_report(report, found, bundle, signer, stored=stored))
    if report.problems:
        raise typer.Exit(1)


def sign(
    bundle: Folder,
    key: Annotated[Path, typer.Option(help="A private EC key (P-256, P-384, P-521) in PEM.")],
) -> None:
    """Sign a bundle with a key, offline, in OpenSSF's model-signing format: bundle.sig in its folder.

    Make a pair of keys with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem` and
    `openssl pkey -in private.pem -pubout -out public.pem`. Daemons trust the public one by `trusted_keys`.
    """
    from bise_export.signing import sign as run

    def ask_password() -> str:
        return str(typer.prompt(f"Password of {key}", hide_input=True, err=True))

    with one_line_errors("sign"):
        signed = run(bundle, key, ask_password)
    typer.echo(f"{signed.bundle.name} {signed.version} is signed by {signed.key}", err=True)


def _signed(folder: Path, keys: Sequence[Path]) -> tuple[bytes, bundle_pb2.Bundle, str]:
    """The manifest, as bytes and as what they say, if one of these keys signed it, and which."""
    from bise_proto.trust.bundle import read_signed
    from bise_proto.trust.key import TrustedKey

    found = read_signed(folder, [TrustedKey.read(key) for key in keys])
    return found.manifest, found.bundle, str(found.key)


def _stored(folder: Path, manifest: bytes, accuracy: bundle_pb2.Accuracy) -> bool:
    """Whether the report went into the manifest; a bundle that must not change is no error, the report is printed."""
    from bise_export.accuracy import store

    try:
        store(folder, manifest, accuracy)
    except ExportError as error:
        typer.echo(f"not stored: {error}", err=True)
        return False
    return True
