"""The JSON Schema of a fleet's file, for editors."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from bise_daemon.fleet.model import FleetFile


class _Schema(GenerateJsonSchema):
    """Without titles of fields, which repeat the keys."""

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """A key that is no name is refused, as the models do."""
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the library's name
        return False


def schema() -> str:
    """The schema as it is committed in deploy/."""
    made = FleetFile.model_json_schema(schema_generator=_Schema)
    return json.dumps({"$schema": _Schema.schema_dialect, **made}, indent=2) + "\n"
