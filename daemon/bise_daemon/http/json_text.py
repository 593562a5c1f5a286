"""JSON as it is sent: of plain values, and of protos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.responses import Response

Json = dict[str, Any]


def encoded(value: Json) -> bytes:
    """An object as JSON, without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def json_response(value: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An object as a response that nobody keeps."""
    return Response(encoded(value), status, {"cache-control": "no-store", **(headers or {})}, "application/json")


def of_proto(message: Message) -> Json:
    """A proto in JSON's form, with the proto's own names; 64-bit numbers are text there."""
    found: Json = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return found
