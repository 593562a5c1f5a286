"""What `bise verify` found, as a page for a person and as one object for a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from google.protobuf import json_format
from rich.console import Group, RenderableType
from rich.text import Text

from bise_export.oracle import Numpy
from bise_export.page import facts, section, table
from bise_export.verify import VerifyReport, accuracy_message
from bise_proto.v1 import bundle_pb2

_ROWS: tuple[tuple[str, Callable[[bundle_pb2.Accuracy], str]], ...] = (
    ("against", lambda found: f"{found.reference} {found.reference_version}".strip()),
    ("positions", lambda found: f"{found.positions:,} of {found.prompts} prompts"),
    ("same next token", lambda found: f"{found.top1_agreement:.1%}"),
    ("mean KL", lambda found: f"{found.mean_kl:.3g} nats"),
    ("99th percentile of KL", lambda found: f"{found.p99_kl:.3g} nats"),
    ("perplexity ratio", lambda found: f"{found.perplexity_ratio:.4g}" if found.perplexity_ratio else "not measured"),
    ("largest logit difference", lambda found: f"{found.max_logit_difference:.3g}"),
)


def render_report(
    report: VerifyReport, bundle: bundle_pb2.Bundle, folder: Path, signer: str | None = None, *, stored: bool = False
) -> RenderableType:
    """The page: what was proved, what quantization cost now and by the manifest, and what is wrong, in red.

    Args:
        report: of the bundle in `folder`.
        bundle: its manifest, as it was before.
        folder: where it lies, to be shown.
        signer: the trusted key that signed it; None if no key was given.
        stored: whether the manifest holds the accuracy measured now.
    """
    return Group(
        Text.assemble((bundle.name, "bold"), f" {bundle.version}"),
        Text(str(folder), style="dim"),
        section("Proved", facts(_proofs(report, signer))),
        section("Accuracy", _accuracy(report, bundle, stored=stored)),
        *([section("Problems", _problems(report.problems))] if report.problems else []),
    )


def report_json(
    report: VerifyReport, bundle: bundle_pb2.Bundle, signer: str | None = None, *, stored: bool = False
) -> dict[str, object]:
    """The same as an object of JSON values.

    Figures have the manifest's form, where one that is not finite is the string "Infinity". `accuracy` is null if no
    checkpoint was given, `stored_accuracy` if the manifest held none before, `parity` if another exporter made the
    graph, `signer` if no key was given. `stored` says whether the manifest now holds `accuracy`.
    """
    return {
        "name": bundle.name,
        "version": bundle.version,
        "signer": signer,
        "files": report.files,
        "warnings": list(report.warnings),
        "parity": _values(accuracy_message(report.parity, Numpy.name, version("numpy"))) if report.parity else None,
        "parity_limit": report.parity_limit,
        "accuracy": _values(report.accuracy) if report.accuracy else None,
        "stored_accuracy": _values(bundle.accuracy) if bundle.HasField("accuracy") else None,
        "stored": stored,
        "problems": report.problems,
    }


def _proofs(report: VerifyReport, signer: str | None) -> Iterable[tuple[str, str]]:
    yield (
        "signature",
        f"by {signer}" if signer else "not checked: give the key it should be by, --trusted-key PUBLIC.pem",
    )
    yield "files", f"{report.files} of {report.files} have the size and hash the manifest says"
    if (parity := report.parity) is None:
        yield "graph", "another exporter's, proved when it was packaged"
        return
    within = parity.mean_kl <= report.parity_limit
    yield "graph", "computes what its bytes say" if within else "does not compute what its bytes say"
    yield "", f"mean KL {parity.mean_kl:.3g} nats, at most {report.parity_limit:g} allowed"
    yield "", f"{parity.positions:,} positions of {parity.prompts} prompts"
    yield "onnxruntime", f"loads it with {len(report.warnings) or 'no'} warning{'s' * (len(report.warnings) != 1)}"


def _accuracy(report: VerifyReport, bundle: bundle_pb2.Bundle, *, stored: bool) -> RenderableType:
    columns: list[tuple[str, bundle_pb2.Accuracy]] = []
    if report.accuracy:
        columns.append(("measured now, and stored" if stored else "measured now", report.accuracy))
    if bundle.HasField("accuracy"):
        columns.append(("in the manifest before" if stored else "in the manifest", bundle.accuracy))
    kind = Text(f"{bundle.quantization.precision or 'foreign'} weights, {bundle.kv_cache.dtype} cache")
    if not columns:
        return Group(kind, Text("not measured: give the checkpoint it was made from, --against CHECKPOINT"))
    rows = table("", *(title for title, _ in columns))
    for name, say in _ROWS:
        rows.add_row(Text(name, style="dim"), *(Text(say(found)) for _, found in columns))
    return Group(kind, rows)


def _problems(problems: Sequence[str]) -> RenderableType:
    return Group(*(Text(f"✗ {problem}", style="red") for problem in problems))


def _values(found: bundle_pb2.Accuracy) -> dict[str, object]:
    values: dict[str, object] = json_format.MessageToDict(
        found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return values
