"""A loaded model: everything that comes out of a bundle and goes into serving it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bise_daemon.chat.format import ChatFormat, load_chat_format
from bise_daemon.chat.tokenizer import Tokenizer, load_tokenizer
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.cost import record
from bise_daemon.cost.calibration import calibrate
from bise_daemon.cost.curve import Curve
from bise_daemon.cost.model import CostModel
from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.loop import clock_ms
from bise_daemon.engine.session import Session, cache_shape, runtime_version
from bise_daemon.memory.fit import check_fit
from bise_daemon.memory.readers import read_memory
from bise_daemon.models.check import accept, check_bundle
from bise_daemon.models.specialising import Specialising
from bise_daemon.prefixes.prefix import encode_prefixes
from bise_daemon.prefixes.store import PrefixStore
from bise_daemon.prefixes.warm import WarmPrefix, warm
from bise_daemon.scheduler.limits import Limits
from bise_proto.bundle import FOREIGN
from bise_proto.v1 import bundle_pb2

logger = logging.getLogger(__name__)

_FLOAT_CACHES = ("float16", "float32")
# Beyond that a step on a CPU takes no less per token, and each size is a set of buffers to bind.
_KNOWN_TOKENS = 16
# MatMulNBits sums one row in another order than several in these (ARCHITECTURE, Invariants): a guess that is verified
# among others could come out as another token.
_ORDER_DEPENDENT = re.compile(r"int4 block (64|128)|int8 block 128")


@dataclass(frozen=True, slots=True)
class Model:
    """A bundle in memory.

    Attributes:
        costs: of steps on this device; learns as it serves.
        limits: what the scheduler may use while memory is plenty.
        prefixes: in the cache already.
        store: where they are on disk.
        load_ms: from the manifest to the first possible request.
        calibration_ms: of it, measuring steps; 0 where a former start had done it.
        specialised: its weights are mapped as this device packs them.
    """

    bundle: bundle_pb2.Bundle
    tokenizer: Tokenizer
    chat: ChatFormat
    session: Session
    cache: KvCache
    costs: CostModel
    limits: Limits
    prefixes: Sequence[WarmPrefix]
    store: PrefixStore
    load_ms: float
    calibration_ms: float
    specialised: bool


def load_model(config: DaemonConfig) -> Model:
    """Checks the bundle (see `check_bundle`), then loads it.

    Raises:
        BundleError: the bundle is not whole, not to be trusted, or doesn't fit this device.
        SessionError: onnxruntime can't load the graph.
        OSError: the system refuses the cache's address space.
    """
    began = time.monotonic()
    specialising = Specialising(config)
    checked = check_bundle(config, read_memory(), specialising.find)
    folder, bundle, context_tokens = checked.folder, checked.bundle, checked.context_tokens
    tokenizer = load_tokenizer(folder, bundle)
    chat = load_chat_format(folder, bundle, tokenizer)
    prefixes = encode_prefixes(config.prefixes, tokenizer, chat)
    slots = config.slots + config.prefix_slots + len(prefixes)
    cache = KvCache(cache_shape(bundle, slots, context_tokens))
    session, specialised = specialising.open(checked, cache)
    budget_tokens = check_fit(bundle, read_memory(), checked.needed_tokens, slots * context_tokens)
    state = config.state_folder
    calibration_began = time.monotonic()
    curve, measured = _curve(config, state, checked.manifest, session, cache)
    calibration_ms = (time.monotonic() - calibration_began) * 1e3 if measured else 0.0
    store = PrefixStore(
        state / "prefixes",
        hashlib.sha256(checked.manifest).hexdigest(),
        f"onnxruntime {runtime_version()} {record.cpu_identity()}",
        cache.shape,
    )
    warmed = warm(
        prefixes,
        store,
        session,
        cache,
        range(config.slots + config.prefix_slots, slots),
        config.prefill_chunk_tokens,
        budget_tokens // 2,
    )
    kept_tokens = context_tokens if config.prefix_tokens is None else config.prefix_tokens
    limits = Limits(
        slots=config.slots,
        context_tokens=context_tokens,
        kv_budget_tokens=budget_tokens,
        prefill_chunk_tokens=config.prefill_chunk_tokens,
        spare_slots=slots - config.slots,
        idle_tokens=kept_tokens + sum(len(prefix.tokens) for prefix in warmed),
        step_ms=config.step_ms,
        ageing_ms=config.ageing_ms,
        draft_tokens=config.draft_tokens if _drafts_are_exact(bundle) else 0,
        known_tokens=_KNOWN_TOKENS if _one_kernel(bundle) else 1,
        smallest_chunk=2 if _lone_queries_differ(bundle) else 1,
        one_way=_one_kernel(bundle) and bundle.graph.prompt_attention != "float",
        mixes=bundle.graph.prompt_attention == "float",
    )
    accept(config, checked)
    load_ms = (time.monotonic() - began) * 1e3
    return Model(
        bundle,
        tokenizer,
        chat,
        session,
        cache,
        CostModel(curve),
        limits,
        warmed,
        store,
        load_ms,
        calibration_ms,
        specialised,
    )


def _lone_queries_differ(bundle: bundle_pb2.Bundle) -> bool:
    """Whether a chunk of one token is computed by another kernel than a longer one, with other last bits.

    So it is where there is no one kernel for both, and in a prompt's own products where its heads share no keys, so
    that one token is one row.
    """
    ungrouped = bundle.architecture.num_heads == bundle.architecture.num_kv_heads
    return not _one_kernel(bundle) or (bundle.graph.prompt_attention == "float" and ungrouped)


def _one_kernel(bundle: bundle_pb2.Bundle) -> bool:
    """Whether GroupQueryAttention is known to attend to one token and to several alike, to the last bit.

    Over floats it does not. Nobody measured that of another exporter's graph.
    """
    return bundle.provenance.source_kind != FOREIGN and bundle.kv_cache.dtype not in _FLOAT_CACHES


def _drafts_are_exact(bundle: bundle_pb2.Bundle) -> bool:
    """Whether several tokens in one step give each the logits, to the last bit, that it would have alone."""
    formats = (each.format for each in bundle.quantization.classes)
    return _one_kernel(bundle) and not any(map(_ORDER_DEPENDENT.match, formats))


def _curve(config: DaemonConfig, state: Path, manifest: bytes, session: Session, cache: KvCache) -> tuple[Curve, bool]:
    """What steps cost here, and whether that had to be measured now."""
    key = record.record_key(
        manifest,
        runtime=runtime_version(),
        cpu=record.cpu_identity(),
        threads=config.threads or os.cpu_count() or 1,
        slots=config.slots,
        context_tokens=cache.shape.context_tokens,
    )
    if (curve := record.load(state, key)) is not None:
        return curve, False
    curve = calibrate(session, cache, context_tokens=cache.shape.context_tokens, slots=config.slots, clock=clock_ms)
    record.save(state, key, curve)
    return curve, True
