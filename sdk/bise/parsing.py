"""Answers as values of a pydantic model; the SDK itself does without pydantic."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

from bise.errors import InvalidRequest
from bise.options import Options
from bise.types import Result


class ResponseModel(Protocol):
    """What is needed of a pydantic model."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]: ...

    @classmethod
    def model_validate_json(cls, json_data: str) -> Self: ...


M = TypeVar("M", bound=ResponseModel)


def with_schema(response_model: type[ResponseModel], options: Options) -> Options:
    """The options, with the model's schema as the answer's format.

    Raises:
        InvalidRequest: it is no pydantic model.
    """
    schema = getattr(response_model, "model_json_schema", None)
    if not callable(schema) or not hasattr(response_model, "model_validate_json"):
        raise InvalidRequest(
            f"response_model: expected a class derived from pydantic.BaseModel, got {response_model!r:.200}. "
            "pip install 'pydantic>=2'",
            reason="INVALID_OPTION",
            numbers={"field": "response_model"},
        )
    return {**options, "json_schema": schema()}


def parsed(response_model: type[M], result: Result) -> M:
    """The answer as a value of the model."""
    return response_model.model_validate_json(result.text)
