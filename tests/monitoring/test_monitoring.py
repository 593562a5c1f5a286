"""Rules, dashboard and page name what the daemon tells, all of it and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bise_daemon.sensors.body import Body
from bise_daemon.sensors.clock import Clock
from bise_daemon.telemetry.device import Vitals, families
from bise_daemon.telemetry.metric import prometheus_word
from bise_daemon.telemetry.table import METRICS
from bise_proto.v1 import device_pb2
from monitoring.dashboard import dashboard
from monitoring.expressions import Named, named
from monitoring.page import rendered

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
_TIMEOUT_S = 60
# What Prometheus adds to each sample of a device.
_ADDED = {"instance", "job"}
BY_NAME = {name: metric for metric in METRICS for name in metric.prometheus_names}


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def recorded(rules: list[dict[str, Any]]) -> Mapping[str, Named]:
    return {rule["record"]: named(rule["expr"]) for rule in rules if "record" in rule}


def labels_of(what: Named, recorded: Mapping[str, Named]) -> set[str]:
    """The labels that may stand in an expression's results."""
    found = set(_ADDED)
    for name in what.metrics:
        if name in recorded:
            found |= recorded[name].grouping
        else:
            found |= set(map(prometheus_word, BY_NAME[name].labels)) | ({"le"} if name.endswith("_bucket") else set())
    return found


@pytest.fixture(scope="module")
def values() -> Mapping[tuple[str, str], set[str]]:
    """What labels can be, by metric and label; of those whose values the daemon chooses."""
    promises = {name: device_pb2.Promises() for name in ("critical", "interactive", "background")}
    error = device_pb2.PredictionError(samples=1)
    status = device_pb2.Status(
        state=device_pb2.Status.SERVING,
        model="m",
        memory_level=device_pb2.Status.NORMAL,
        promises=promises,
        first_token_error=error,
        total_error=error,
    )
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for family in families(Vitals(status, Body({}, Clock(None, None, None), {}))):
        for point in family.points:
            for label, value in zip(family.metric.labels, point, strict=True):
                for name in family.metric.prometheus_names:
                    found[name, label].add(value)
    return found


def expressions(rules: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Every expression with where it stands, and the text beside it that names labels."""
    for rule in rules:
        told = " ".join(rule.get("annotations", {}).values())
        yield rule.get("alert") or rule["record"], rule["expr"], " ".join(re.findall(r"\$labels\.(\w+)", told))
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], " ".join(re.findall(r"{{(\w+)}}", target["legendFormat"]))


def test_nothing_is_named_that_is_not_told(rules: list[dict[str, Any]], recorded: Mapping[str, Named]) -> None:
    unknown = {
        (where, name)
        for where, text, _ in expressions(rules)
        for name in named(text).metrics - BY_NAME.keys() - recorded.keys()
    }
    assert unknown == set()


def test_everything_told_is_on_the_dashboard(rules: list[dict[str, Any]], recorded: Mapping[str, Named]) -> None:
    shown: set[str] = set()
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            for name in named(target["expr"]).metrics:
                shown |= recorded[name].metrics if name in recorded else {name}
    assert [metric.name for metric in METRICS if not metric.prometheus_names & shown] == []


def test_labels_are_those_of_the_metrics(rules: list[dict[str, Any]], recorded: Mapping[str, Named]) -> None:
    wrong = set()
    for where, text, beside in expressions(rules):
        what = named(text)
        wrong |= {(where, label) for label in {*what.grouping, *beside.split()} - labels_of(what, recorded)}
        for name, label, _ in what.matchers:
            wrong |= {(where, label)} - {(where, each) for each in labels_of(named(name), recorded)}
    assert wrong == set()


def test_labels_have_values_that_come(rules: list[dict[str, Any]], values: Mapping[tuple[str, str], set[str]]) -> None:
    wrong = {
        (where, value)
        for where, text, _ in expressions(rules)
        for name, label, wanted in named(text).matchers
        if (name, label) in values
        for value in set(wanted) - values[name, label]
    }
    assert wrong == set()


def test_no_alert_is_named_twice_and_each_says_what_to_do(rules: list[dict[str, Any]]) -> None:
    alerts = [rule for rule in rules if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    assert all(rule["annotations"].keys() == {"summary", "action"} for rule in alerts)
    assert {rule["labels"]["severity"] for rule in alerts} == {"warning", "critical"}


def test_the_dashboard_is_as_it_would_be_written_now() -> None:
    assert json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8")) == dashboard(), "run `make monitoring`"


def test_panels_have_numbers_and_places_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        (column, line)
        for panel in panels
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for line in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert max(column for column, _ in squares) == 23


def test_the_page_is_as_it_would_be_written_now() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert text == rendered(text), "run `make monitoring`"


def test_the_page_names_nothing_that_is_not_told(recorded: Mapping[str, Named]) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\b(?:bise_(?!daemon/)|bise:|gen_ai_)[\w:]+", text))
    families = {metric.prometheus_family for metric in METRICS}
    assert words - families - BY_NAME.keys() - recorded.keys() == set()


@pytest.mark.slow
def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("PROMTOOL IS MISSING, SO THE RULES WERE PARSED AND NOT TRIED: apt-get install prometheus")
    for name, folder in (("alerts.yml", FOLDER), ("alerts_test.yml", Path(__file__).parent)):
        shutil.copy(folder / name, tmp_path)
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        told = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize(
    ("text", "metrics", "labels"),
    [
        ("a_b == 1", {"a_b"}, set()),
        ('rate(a{x="1", y=~"2|3"}[5m]) / (sum by (z) (b[1m]) > 0)', {"a", "b"}, {"x", "y", "z"}),
        ('histogram_quantile(0.9, sum by (le) (c_bucket{i=~"$i"})) or d:e:f', {"c_bucket", "d:e:f"}, {"le", "i"}),
    ],
)
def test_expressions_are_read(text: str, metrics: set[str], labels: set[str]) -> None:
    what = named(text)
    assert what.metrics == metrics
    assert what.grouping | {label for _, label, _ in what.matchers} == labels
