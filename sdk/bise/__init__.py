"""bise: call a language model that runs on this device.

    from bise import Client

    with Client() as client:
        print(client.chat("What is the capital of France?", max_tokens=64).text)

Names are imported when first used, so that `import bise` costs nothing until a client is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bise.aio import AsyncClient
    from bise.client import Client
    from bise.errors import (
        BiseError,
        Cancelled,
        ContextOverflow,
        ConversationLost,
        DaemonError,
        DaemonUnavailable,
        DeadlineExceeded,
        InvalidRequest,
        LowMemory,
        OverBudget,
        Refused,
        Unsupported,
    )
    from bise.messages import MalformedToolCall, Message, ToolCall, ToolCallDelta
    from bise.options import Options
    from bise.stream import AsyncStream, Stream
    from bise.talk import AsyncTalk, Talk
    from bise.tool_loop import ToolRun
    from bise.tools import Tool
    from bise.types import (
        Accepted,
        Delta,
        FinishReason,
        Health,
        MemoryLevel,
        PredictionError,
        Result,
        State,
        Status,
        Timings,
        TokenCount,
        TokenLogprob,
        Usage,
    )

    __version__: str

__all__ = [
    "Accepted",
    "AsyncClient",
    "AsyncStream",
    "AsyncTalk",
    "BiseError",
    "Cancelled",
    "Client",
    "ContextOverflow",
    "ConversationLost",
    "DaemonError",
    "DaemonUnavailable",
    "DeadlineExceeded",
    "Delta",
    "FinishReason",
    "Health",
    "InvalidRequest",
    "LowMemory",
    "MalformedToolCall",
    "MemoryLevel",
    "Message",
    "Options",
    "OverBudget",
    "PredictionError",
    "Refused",
    "Result",
    "State",
    "Status",
    "Stream",
    "Talk",
    "Timings",
    "TokenCount",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolRun",
    "Unsupported",
    "Usage",
    "__version__",
]

_MODULES = {
    "AsyncClient": "aio",
    "Client": "client",
    "Options": "options",
    "AsyncStream": "stream",
    "Stream": "stream",
    "AsyncTalk": "talk",
    "Talk": "talk",
    "Tool": "tools",
    "ToolRun": "tool_loop",
}
_MODULES |= dict.fromkeys(("MalformedToolCall", "Message", "ToolCall", "ToolCallDelta"), "messages")
_MODULES |= dict.fromkeys(
    (
        "BiseError",
        "Cancelled",
        "ContextOverflow",
        "ConversationLost",
        "DaemonError",
        "DaemonUnavailable",
        "DeadlineExceeded",
        "InvalidRequest",
        "LowMemory",
        "OverBudget",
        "Refused",
        "Unsupported",
    ),
    "errors",
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("bise")
    if name not in __all__:
        raise AttributeError(f"module 'bise' has no attribute {name!r}")
    return getattr(import_module(f"bise.{_MODULES.get(name, 'types')}"), name)


def __dir__() -> list[str]:
    return __all__
