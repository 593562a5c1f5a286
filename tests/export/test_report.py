"""The page and the object `bise verify` prints."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bise_export.agreement import Agreement
from bise_export.report import render_report, report_json
from bise_export.verify import VerifyReport
from bise_proto.v1 import bundle_pb2

PARITY = Agreement(8, 716, 2.5e-5, 1e-4, 0.999, 1.0001, 0.02, 5.0)
ACCURACY = bundle_pb2.Accuracy(
    reference="transformers float32",
    reference_version="5.1",
    prompts=8,
    positions=716,
    mean_kl=0.0045,
    p99_kl=0.025,
    top1_agreement=0.955,
    perplexity_ratio=1.002,
    max_logit_difference=4.2,
)
REPORT = VerifyReport(files=5, warnings=(), parity=PARITY, parity_limit=1e-3, accuracy=ACCURACY)
BUNDLE = bundle_pb2.Bundle(
    name="Smol",
    version="3",
    quantization=bundle_pb2.Quantization(precision="int8"),
    kv_cache=bundle_pb2.KvCache(dtype="float32"),
    accuracy=bundle_pb2.Accuracy(
        reference="numpy float32", prompts=8, positions=700, mean_kl=0.0051, p99_kl=0.03, top1_agreement=0.942
    ),
)


def unmeasured():
    bundle = bundle_pb2.Bundle()
    bundle.CopyFrom(BUNDLE)
    bundle.ClearField("accuracy")
    return bundle


def page(report, bundle=BUNDLE, stored=False, **settings):
    console = Console(file=io.StringIO(), width=100, **settings)
    console.print(render_report(report, bundle, Path("models/smol"), stored=stored))
    return console.file.getvalue()


def row(text, name):
    (found,) = (line for line in text.splitlines() if line.strip().startswith(name))
    return found.split(name)[1].split()


def test_what_was_proved_is_said():
    text = page(REPORT)

    assert "Smol 3" in text
    assert "5 of 5 have the size and hash" in text
    assert "computes what its bytes say" in text
    assert "mean KL 2.5e-05 nats, at most 0.001 allowed" in text
    assert "716 positions of 8 prompts" in text
    assert "loads it with no warnings" in text
    assert "Problems" not in text


def test_accuracy_now_stands_beside_the_manifests():
    text = page(REPORT)

    assert "int8 weights, float32 cache" in text
    assert row(text, "mean KL  ") == ["0.0045", "nats", "0.0051", "nats"]
    assert row(text, "99th percentile of KL") == ["0.025", "nats", "0.03", "nats"]
    assert row(text, "same next token") == ["95.5%", "94.2%"]
    assert row(text, "positions") == ["716", "of", "8", "prompts", "700", "of", "8", "prompts"]
    assert row(text, "against") == ["transformers", "float32", "5.1", "numpy", "float32"]
    assert row(text, "perplexity ratio") == ["1.002", "not", "measured"]


def test_a_report_that_was_stored_says_so():
    assert "measured now, and stored" in page(REPORT, stored=True)
    assert "in the manifest before" in page(REPORT, stored=True)
    assert report_json(REPORT, BUNDLE, stored=True)["stored"] is True


def test_without_a_checkpoint_the_manifests_stands_alone():
    text = page(replace(REPORT, accuracy=None))

    assert "measured now" not in text
    assert row(text, "same next token") == ["94.2%"]


def test_without_any_accuracy_the_page_says_how_to_get_it():
    assert "--against CHECKPOINT" in page(replace(REPORT, accuracy=None), unmeasured())


def test_problems_are_told_in_red():
    broken = replace(REPORT, warnings=("[W] unused [bold]",), parity=replace(PARITY, mean_kl=0.3))

    text = page(broken, force_terminal=True, color_system="standard")

    assert "does not compute what its bytes say" in text
    assert "\x1b[31m✗ onnxruntime warned while loading the graph: [W] unused [bold]" in text
    assert "\x1b[31m✗ the graph does not compute" in text
    assert "loads it with 1 warning" in page(broken)


@pytest.mark.parametrize("mean_kl", [0.0, 0.3, float("inf")])
def test_the_object_is_plain_json_with_every_figure(mean_kl):
    report = replace(REPORT, parity=replace(PARITY, mean_kl=mean_kl))

    found = json.loads(json.dumps(report_json(report, BUNDLE), allow_nan=False))

    assert float(found["parity"]["mean_kl"]) == mean_kl
    assert found["accuracy"]["positions"] == 716
    assert found["accuracy"]["top1_agreement"] == 0.955
    assert found["stored_accuracy"]["top1_agreement"] == 0.942
    assert len(found["problems"]) == (mean_kl > 1e-3)
    assert (found["files"], found["name"]) == (5, "Smol")


def test_what_was_not_measured_is_null():
    found = report_json(replace(REPORT, accuracy=None), unmeasured())

    assert found["accuracy"] is None
    assert found["stored_accuracy"] is None
