"""Tools from what Python says of functions and models: signatures, annotations and docstrings to JSON Schema."""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bise.errors import InvalidRequest

_PLAIN: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_SECTION = re.compile(r"^(Args|Arguments|Parameters):\s*$")
_ARGUMENT = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may ask to be run.

    Attributes:
        name: letters, digits, "_" and "-", at most 64.
        parameters: JSON Schema of an object, the arguments by name.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}}, hash=False)


# A function, a pydantic model, a mapping in OpenAI's form, or a Tool.
ToolLike = Tool | Mapping[str, Any] | Callable[..., Any]


def describe(tool: ToolLike, where: str) -> Tool:
    """What the model is told of a tool.

    Args:
        where: its name, for the refusal, for instance `tools[0]`.

    Raises:
        InvalidRequest: it is none, or has a parameter that no schema is known for.
    """
    try:
        if isinstance(tool, Tool):
            return tool
        if isinstance(tool, Mapping):
            return _from_mapping(tool)
        if hasattr(tool, "model_json_schema"):
            return _from_model(tool)
        return _from_function(tool)
    except (TypeError, ValueError, KeyError, AttributeError, NameError) as error:
        raise InvalidRequest(
            f"{where}: expected a function with annotated parameters, a pydantic model, "
            f'{{"name": …, "parameters": {{…}}}} or a bise.Tool, got {tool!r:.200}: {error}',
            reason="INVALID_MESSAGE",
            numbers={"field": where},
        ) from error


def call_function(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Calls a function with arguments by name, as its annotations want them."""
    hints = typing.get_type_hints(function)
    return function(**{name: _converted(value, hints.get(name)) for name, value in values.items()})


def _from_mapping(tool: Mapping[str, Any]) -> Tool:
    function = tool.get("function", tool)
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    json.dumps(parameters)  # a TypeError tells early that it is no JSON
    return Tool(function["name"], function.get("description") or "", parameters)


def _from_model(model: Any) -> Tool:
    schema = dict(model.model_json_schema())
    description = inspect.getdoc(model) if model.__doc__ else ""
    schema.pop("title", None)
    return Tool(model.__name__, schema.pop("description", None) or description or "", schema)


def _from_function(function: Callable[..., Any]) -> Tool:
    description, told = _docstring(inspect.getdoc(function) or "")
    hints = typing.get_type_hints(function, include_extras=True)
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"the parameter {parameter} can't be given by name")
        if name not in hints:
            raise TypeError(f"the parameter {name} has no annotation")
        schema = _schema(hints[name], definitions)
        if name in told:
            schema = {**schema, "description": told[name]}
        if parameter.default is parameter.empty:
            required.append(name)
        properties[name] = schema
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    if definitions:
        parameters["$defs"] = definitions
    return Tool(function.__name__, description, parameters)


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an annotation; what it refers to goes into `definitions`."""
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is Any:
        return {}
    if hasattr(hint, "model_json_schema"):
        model: dict[str, Any] = dict(hint.model_json_schema())
        definitions |= model.pop("$defs", {})
        return model
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        texts = [each for each in arguments[1:] if isinstance(each, str)]
        return _schema(arguments[0], definitions) | ({"description": texts[0]} if texts else {})
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(each, definitions) for each in arguments]}
    if hint in (list, Sequence) or origin in (list, Sequence):
        return {"type": "array", **({"items": _schema(arguments[0], definitions)} if arguments else {})}
    if hint in (dict, Mapping) or origin in (dict, Mapping):
        return {"type": "object", **({"additionalProperties": _schema(arguments[1], definitions)} if arguments else {})}
    raise TypeError(f"no schema is known for {hint!r}")


def _converted(value: Any, hint: Any) -> Any:
    """A JSON value as an annotation wants it: models and enumerations from what they are in JSON."""
    if hasattr(hint, "model_validate"):
        return hint.model_validate(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    return value


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says before its sections, and of the parameters, in Google's style."""
    lines = text.splitlines()
    start = next((place for place, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    ends = [place for place, line in enumerate(lines) if re.match(r"^[A-Z]\w+:\s*$", line)]
    told: dict[str, str] = {}
    name = ""
    for line in lines[start + 1 :]:
        if line and not line.startswith(" "):
            break
        if found := _ARGUMENT.match(line.strip()):
            name = found[1]
            told[name] = found[2]
        elif name and line.strip():
            told[name] += f" {line.strip()}"
    return "\n".join(lines[: min([start, *ends])]).strip(), told
