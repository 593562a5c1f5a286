"""The example for Kubernetes holds to Kubernetes' schemas, and to what the daemon takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bise_daemon.config.load import load_config

EXAMPLE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "daemonset.yaml"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(EXAMPLE.read_text()))
KINDS = [each["kind"] for each in OBJECTS]


def of(kind: str) -> dict[str, Any]:
    return OBJECTS[KINDS.index(kind)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_it_holds_to_the_schemas_of_a_version(kind: str, version: str) -> None:
    # 108 MB of schemas, for offline use: too many for each checkout.
    validate = pytest.importorskip("kubernetes_validate", reason="install the extra `kubernetes`").validate
    validate(of(kind), version, strict=True)


def test_its_configuration_is_one(tmp_path: Path) -> None:
    path = tmp_path / "bise.yaml"
    path.write_text(of("ConfigMap")["data"]["bise.yaml"])
    config = load_config(path)
    spec = of("DaemonSet")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    port = config.listen.port
    assert [each["containerPort"] for each in container["ports"]] == [port]
    assert [container[f"{probe}Probe"]["grpc"]["port"] for probe in ("startup", "readiness", "liveness")] == [port] * 3
    assert of("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == port
    assert of("Service")["spec"]["ports"][0]["port"] == port
    assert spec["terminationGracePeriodSeconds"] > config.drain_timeout_s
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    assert {str(config.state_dir), str(config.bundle.parent)} <= mounted


def test_all_objects_are_in_its_namespace_and_select_the_same_pods() -> None:
    assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in OBJECTS} == {"bise"}
    labels = of("DaemonSet")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        of("DaemonSet")["spec"]["selector"]["matchLabels"],
        of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        of("Service")["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()
