"""The committed schema is the models', and takes what they take."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.fleet.schema import schema
from daemon.fleet.test_fleet import EXAMPLE

COMMITTED = Path(__file__).parents[3] / "deploy" / "fleet.schema.json"


@pytest.fixture(scope="module")
def check() -> jsonschema.Draft202012Validator:
    document = json.loads(COMMITTED.read_text())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def test_the_committed_schema_is_fresh() -> None:
    assert COMMITTED.read_text() == schema(), "run `bise fleet schema > deploy/fleet.schema.json`"


def test_the_example_holds_to_it(check) -> None:
    check.validate(yaml.safe_load(EXAMPLE.read_text()))


def test_every_setting_is_in_it_with_a_description_and_nothing_is_needed(check) -> None:
    layer = check.schema["$defs"]["ConfigLayer"]
    assert layer["properties"].keys() == DaemonConfig.model_fields.keys()
    assert all(setting["description"] for setting in layer["properties"].values())
    assert "required" not in layer
    assert layer["properties"]["slots"]["default"] == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"defaults": {"slot": 4}},
        {"defaults": {"slots": "4"}},
        {"defaults": {"listen": {"path": "/x"}}},
        {"groups": {"a": {"match": {}, "config": {}}}},
        {"groups": {"a": {"config": {}}}},
        {"devices": {}},
        {"devices": {"a b": {}}},
        {"rollout": {"rings": [{"name": "a", "percent": 101}]}},
    ],
)
def test_what_the_models_refuse_it_refuses(check, wrong) -> None:
    assert not check.is_valid({"devices": {"a": {}}, **wrong})


def test_one_value_may_stand_for_a_list(check) -> None:
    assert check.is_valid({"labels": {"region": "eu"}, "devices": {"a": {"labels": {"region": "eu"}}}})
