"""The routes, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bise_daemon.answering import Answering
from bise_daemon.errors import RequestError
from bise_daemon.http.error import HttpError
from bise_daemon.http.exchange import ChatExchange, CompletionExchange
from bise_daemon.http.guard import Guard
from bise_daemon.http.json_text import Json, json_response, of_proto
from bise_daemon.http.page import page_routes
from bise_daemon.serving import Stage
from bise_proto.v1 import device_pb2

_PATHS = "GET /v1/models and /status, POST /v1/chat/completions and /v1/completions"


def make_app(
    stage: Stage,
    answering: Answering,
    status: Callable[[], device_pb2.Status],
    max_bytes: int,
    *,
    page: bool,
    any_host: bool,
) -> Starlette:
    """The whole door, as ASGI has it.

    Args:
        status: what the daemon knows of itself now.
        max_bytes: of a request's body.
        page: whether there is one.
        any_host: see `Guard`.
    """

    def model() -> str:
        return stage.serving().model.bundle.name

    async def list_models(_: Request) -> Response:
        return json_response({"object": "list", "data": [_model(stage)]})

    async def get_model(request: Request) -> Response:
        asked = request.path_params["name"]
        if asked != model():
            raise HttpError(404, "UNKNOWN_MODEL", f"model: expected {model()!r}, got {asked[:100]!r}.")
        return json_response(_model(stage))

    async def get_status(_: Request) -> Response:
        return json_response(of_proto(status()))

    routes = [
        Route("/v1/models", list_models),
        Route("/v1/models/{name:path}", get_model),
        Route("/v1/chat/completions", ChatExchange(answering, model, max_bytes), methods=["POST"]),
        Route("/v1/completions", CompletionExchange(answering, model, max_bytes), methods=["POST"]),
        Route("/status", get_status),
        *(page_routes() if page else ()),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, any_host=any_host)],
        exception_handlers={
            HttpError: _refused,
            RequestError: _request_error,
            HTTPException: _http_error,
            Exception: _failed,
        },
    )


def _model(stage: Stage) -> Json:
    serving = stage.serving()
    return {
        "id": serving.model.bundle.name,
        "object": "model",
        "created": 0,
        "owned_by": "bise",
        "context_limit": serving.reception.capacity.context_limit,
    }


async def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HttpError)
    return refusal.response()


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return await _refused(request, HttpError.of(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {404: "UNKNOWN_PATH", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "BAD_REQUEST")
    where = f"{request.method[:20]} {request.url.path[:100]}"
    failure = HttpError(error.status_code, reason, f"{where}: {error.detail}. There are {_PATHS}.")
    return failure.response(error.headers)


async def _failed(request: Request, _: Exception) -> Response:
    return await _refused(request, HttpError(500, "INTERNAL", "the daemon failed at this request; its log says how."))
