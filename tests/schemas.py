"""Fifty JSON Schemas as programs ask for them: nested, enums, arrays, references, bounds, patterns, recursive ones."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_YES_NO: Schema = {"type": "boolean"}


def closed(properties: dict[str, Schema], *optional: str, **more: Any) -> Schema:
    """An object with these properties and no others; all but the optional ones must be there."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False, **more}


def listing(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def of(ref: str) -> Schema:
    return {"$ref": f"#/$defs/{ref}"}


_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_PERSON = closed({"name": _TEXT, "age": {"type": "integer", "minimum": 0, "maximum": 120}})
_ADDRESS = closed({"street": {**_TEXT, "minLength": 3}, "zip": {**_TEXT, "pattern": "^[0-9]{5}$"}, "country": _TEXT})
_COLOR: Schema = {"enum": ["red", "green", "blue", "ultramarine"]}
_TREE = {"tree": closed({"value": _WHOLE, "children": listing(of("tree"))})}
_CHAIN = {"node": closed({"value": _TEXT, "next": either(of("node"), {"type": "null"})})}
_MENU = {"item": closed({"name": _TEXT, "items": listing(of("item"))}, "items")}
_EXPRESSION = {
    "expression": either(of("number"), of("sum")),
    "number": closed({"number": _NUMBER}),
    "sum": closed({"left": of("expression"), "right": of("expression")}),
}

SCHEMAS: tuple[Schema, ...] = (
    {"type": "object"},
    listing({}),
    _PERSON,
    _ADDRESS,
    closed({"person": _PERSON, "address": _ADDRESS}),
    closed({"people": listing(_PERSON, minItems=1, maxItems=4)}),
    closed({"people": listing(_PERSON, minItems=3)}),
    _COLOR,
    closed({"color": _COLOR, "second": _COLOR}, "second"),
    listing(_COLOR, minItems=2, maxItems=5),
    closed({"level": {"enum": [1, 2, 3, None, True, "off"]}}),
    closed({"kind": {"const": "point"}, "x": _NUMBER, "y": _NUMBER}),
    either(closed({"circle": _NUMBER}), closed({"width": _NUMBER, "height": _NUMBER})),
    closed(
        {"shape": either(closed({"kind": {"const": "a"}, "a": _TEXT}), closed({"kind": {"const": "b"}, "b": _WHOLE}))}
    ),
    {"$ref": "#/$defs/tree", "$defs": _TREE},
    {"$ref": "#/$defs/node", "$defs": _CHAIN},
    {"$ref": "#/$defs/expression", "$defs": _EXPRESSION},
    closed({"root": of("tree"), "title": _TEXT}, **{"$defs": _TREE}),
    closed({"list": of("node"), "length": _WHOLE}, **{"$defs": _CHAIN}),
    closed({"formula": of("expression")}, **{"$defs": _EXPRESSION}),
    {"type": "integer", "minimum": 17, "maximum": 4200},
    {"type": "integer", "minimum": -50, "maximum": -10},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "minimum": 99.5, "maximum": 100.25},
    closed(
        {"percent": {"type": "integer", "minimum": 0, "maximum": 100}, "even": {"type": "integer", "multipleOf": 2}}
    ),
    closed({"id": {**_TEXT, "pattern": "^[A-Z]{3}-[0-9]{4}$"}, "note": {**_TEXT, "maxLength": 20}}),
    closed({"code": {**_TEXT, "minLength": 8, "maxLength": 8}}),
    closed({"day": {**_TEXT, "format": "date"}, "at": {**_TEXT, "format": "time"}}),
    closed({"mail": {**_TEXT, "format": "email"}, "id": {**_TEXT, "format": "uuid"}}),
    closed({"when": {**_TEXT, "format": "date-time"}, "ip": {**_TEXT, "format": "ipv4"}}),
    {"type": ["string", "integer", "null"]},
    closed({"maybe": {"type": ["number", "null"]}, "flag": _YES_NO}),
    closed({f"field{index}": _TEXT for index in range(12)}),
    closed({f"field{index}": _WHOLE for index in range(12)}, *(f"field{index}" for index in range(0, 12, 2))),
    closed({"a": closed({"b": closed({"c": closed({"d": closed({"e": _TEXT})})})})}),
    listing(listing(_WHOLE, minItems=2, maxItems=2), minItems=2),
    {"type": "array", "prefixItems": [_TEXT, _WHOLE, _YES_NO], "items": False, "minItems": 3},
    {"type": "object", "additionalProperties": _WHOLE},
    {"type": "object", "properties": {"name": _TEXT}, "required": ["name"], "additionalProperties": _NUMBER},
    {"type": "object", "properties": {"name": _TEXT, "tags": listing(_TEXT)}, "required": ["name"]},
    {"allOf": [{"type": "object", "properties": {"a": _TEXT}, "required": ["a"]}, {"properties": {"b": _WHOLE}}]},
    closed({"name": {"const": "get_weather"}, "arguments": closed({"city": _TEXT, "unit": {"enum": ["C", "F"]}})}),
    listing(
        closed({"name": {"enum": ["search", "open"]}, "arguments": closed({"query": _TEXT, "limit": _WHOLE}, "limit")}),
        minItems=1,
        maxItems=3,
    ),
    closed({"title": _TEXT, "steps": listing(closed({"do": _TEXT, "seconds": _NUMBER}), minItems=2)}),
    closed(
        {
            "answer": _TEXT,
            "sources": listing({**_TEXT, "format": "uri"}),
            "sure": {**_NUMBER, "minimum": 0, "maximum": 1},
        }
    ),
    closed({"quote": {**_TEXT, "pattern": '^"[a-z]+"$'}, "path": {**_TEXT, "pattern": "^(/[a-z]+)+$"}}),
    closed({"text": _TEXT, "stars": {"enum": [1, 2, 3, 4, 5]}, "pros": listing(_TEXT), "cons": listing(_TEXT)}, "cons"),
    closed({"unicode é": {"enum": ["größer", "東京", "नमस्ते", "🌬️"]}}),
    closed(
        {
            "matrix": listing(
                listing({**_NUMBER, "minimum": -1, "maximum": 1}, minItems=3, maxItems=3), minItems=3, maxItems=3
            )
        }
    ),
    closed(
        {"menu": listing(of("item"), minItems=1)},
        **{"$defs": {"item": closed({"name": _TEXT, "items": listing(of("item"))}, "items")}},
    ),
)
