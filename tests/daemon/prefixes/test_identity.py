"""A prefix from disk changes nothing: the next logits are those of a prompt computed whole, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.format import load_chat_format
from bise_daemon.chat.message import Message
from bise_daemon.chat.tokenizer import load_tokenizer
from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.session import Logits, Session, cache_shape, runtime_version
from bise_daemon.prefixes.config import PrefixConfig
from bise_daemon.prefixes.prefix import Prefix, encode_prefixes
from bise_daemon.prefixes.store import PrefixStore
from bise_daemon.prefixes.warm import warm
from bise_proto.bundle import MANIFEST, read_manifest, sha256
from golden import tiny
from golden.tiny_bundle import Kind, write

PROMPT = [5, 17, 200, 31, 9, 88, 140, 3, 61, 7, 250, 12]


class Device:
    """A session over a cache of two slots, as after a start of the daemon."""

    def __init__(self, bundle_folder: Path, folder: Path, context_tokens: int) -> None:
        bundle = read_manifest(bundle_folder)
        self.cache = KvCache(cache_shape(bundle, 2, context_tokens))
        self.session = Session(bundle_folder, bundle, self.cache, threads=1)
        key = sha256(bundle_folder / MANIFEST)
        self.store = PrefixStore(folder, key, runtime_version(), self.cache.shape)

    def warm(self, prefix: Prefix) -> None:
        """Brings the prefix into slot 1."""
        warm([prefix], self.store, self.session, self.cache, [1], 128, 1 << 20)

    def greedy(self, slot: int, start: int, prompt: Sequence[int], steps: int) -> tuple[Logits, list[int]]:
        """The logits [vocab] behind a prompt of which `start` tokens are in the slot, and the tokens that follow."""
        first = logits = self.session.prefill(slot, start, prompt[start:], samples=True)[0].copy()
        tokens: list[int] = []
        for step in range(steps):
            tokens.append(int(logits.argmax()))
            logits = self.session.decode(slot, tokens[-1:], [len(prompt) + step])[0]
        return first, tokens


def check_identity(bundle_folder: Path, folder: Path, prefix: Prefix, prompt: Sequence[int], context: int) -> None:
    assert list(prompt[: len(prefix.tokens)]) == list(prefix.tokens)
    first = Device(bundle_folder, folder, context)
    wanted, wanted_tokens = first.greedy(0, 0, prompt, 8)
    first.warm(prefix)
    computed = b"".join(first.cache.pieces(1, len(prefix.tokens)))

    again = Device(bundle_folder, folder, context)
    again.session.prefill = None  # type: ignore[assignment, method-assign] - it must not be needed
    again.warm(prefix)
    del again.session.prefill
    assert b"".join(again.cache.pieces(1, len(prefix.tokens))) == computed
    logits, tokens = again.greedy(1, len(prefix.tokens), prompt, 8)
    np.testing.assert_array_equal(logits, wanted)
    assert tokens == wanted_tokens


# Not float16: its kernel rounds what is in the cache and not what is new, so a prompt's logits depend on its chunks.
@pytest.mark.parametrize("kind", [Kind("int4", "int8"), Kind("int8", "float32")], ids=str)
def test_a_tiny_models_prefix_from_disk_is_as_computed(tmp_path: Path, kind: Kind) -> None:
    write(tmp_path / "bundle", tiny.LLAMA, kind, [PROMPT])
    check_identity(tmp_path / "bundle", tmp_path / "state", Prefix("tiny", PROMPT[:7]), PROMPT, 64)


@pytest.mark.slow
@pytest.mark.real_model
def test_the_real_models_prefix_from_disk_is_as_computed(
    smollm2_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = read_manifest(smollm2_bundle)
    tokenizer = load_tokenizer(smollm2_bundle, bundle)
    chat = load_chat_format(smollm2_bundle, bundle, tokenizer)
    system = "You are the voice of a car. Answer in one short sentence, and never while the driver is braking. " * 12
    config = PrefixConfig.model_validate({"name": "car", "messages": [{"role": "system", "content": system}]})
    (prefix,) = encode_prefixes([config], tokenizer, chat)
    assert len(prefix.tokens) > 200
    prompt = chat.encode(Conversation([Message("system", system), Message("user", "Is it far to Geneva?")])).token_ids
    check_identity(smollm2_bundle, tmp_path, prefix, prompt, 512)
    assert not caplog.records

    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    device = Device(smollm2_bundle, tmp_path, 512)
    pieces = list(device.cache.pieces(1, len(prefix.tokens)))
    for damaged in (whole[:-1], whole[: len(whole) // 2] + b"!" + whole[len(whole) // 2 + 1 :]):
        assert damaged != whole
        path.write_bytes(damaged)
        assert not device.store.load(prefix.tokens, pieces)
    path.write_bytes(whole)
    other = PrefixStore(tmp_path, "0" * 64, runtime_version(), device.cache.shape)
    assert not other.load(prefix.tokens, pieces)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert device.store.load(prefix.tokens, pieces)
