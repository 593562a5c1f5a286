"""A loaded model: everything that comes out of a bundle and goes into serving it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bise_daemon.chat.format import ChatFormat, load_chat_format
from bise_daemon.chat.tokenizer import Tokenizer, load_tokenizer
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.session import Session, cache_shape
from bise_daemon.memory.fit import kv_budget_tokens
from bise_daemon.memory.readers import read_memory
from bise_daemon.models.geometry import check_geometry
from bise_daemon.scheduler.scheduler import Limits
from bise_proto.bundle import BundleError, check_files, read_manifest
from bise_proto.v1 import bundle_pb2


@dataclass(frozen=True, slots=True)
class Model:
    """A bundle in memory.

    Attributes:
        limits: what the scheduler may use; `context_tokens` is the context limit of a request.
        load_ms: from the manifest to the first possible step.
    """

    bundle: bundle_pb2.Bundle
    tokenizer: Tokenizer
    chat: ChatFormat
    session: Session
    cache: KvCache
    limits: Limits
    load_ms: float


def load_model(config: DaemonConfig) -> Model:
    """Checks every file of the bundle, then loads it.

    Raises:
        BundleError: the bundle is not whole, or doesn't fit this device.
        SessionError: onnxruntime can't load the graph.
        OSError: the system refuses the cache's address space.
    """
    began = time.monotonic()
    folder: Path = config.bundle
    bundle = read_manifest(folder)
    check_geometry(folder, bundle)
    for _ in check_files(folder, bundle):
        pass
    tokenizer = load_tokenizer(folder, bundle)
    chat = load_chat_format(folder, bundle, tokenizer)
    most_tokens = min(bundle.graph.context, config.context or bundle.graph.context)
    cache = KvCache(cache_shape(bundle, config.slots, most_tokens))
    session = Session(folder, bundle, cache, config.threads or 0)
    # A first step pays for what onnxruntime sets up lazily, before anyone waits for it.
    session.decode(0, [0], [0])
    cache.release(0)
    limits = _limits(config, bundle, cache, most_tokens)
    return Model(bundle, tokenizer, chat, session, cache, limits, (time.monotonic() - began) * 1e3)


def _limits(config: DaemonConfig, bundle: bundle_pb2.Bundle, cache: KvCache, most_tokens: int) -> Limits:
    available_bytes = read_memory().available_bytes
    bytes_per_token = cache.shape.bytes_per_token
    budget_tokens = kv_budget_tokens(available_bytes, bytes_per_token, config.slots * most_tokens)
    needed_tokens = min(most_tokens, config.prefill_chunk_tokens)
    if budget_tokens < needed_tokens:
        raise BundleError(
            f"{bundle.name}: expected memory for at least {needed_tokens} tokens of {bytes_per_token} bytes beside "
            f"what the system keeps, got {available_bytes >> 20} MiB once it is loaded. "
            "Free memory, or export it smaller."
        )
    return Limits(config.slots, min(most_tokens, budget_tokens), budget_tokens, config.prefill_chunk_tokens)
