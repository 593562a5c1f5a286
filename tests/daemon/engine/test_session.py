"""The graph under onnxruntime, over a cache of slots: what the engine relies on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bise_daemon.engine import session as session_module
from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.runner import Interrupted
from bise_daemon.engine.session import Session, SessionError, cache_shape
from bise_daemon.scheduler.step import Decode, Prefill, Row
from bise_proto.bundle import read_manifest
from bise_proto.v1 import bundle_pb2
from golden import tiny
from golden.tiny_bundle import Kind, write

PROMPT = [5, 17, 200, 31, 9, 88, 140, 3, 61, 7, 250, 12]
_CONTEXT = 64
_ATTEMPTS = 10_000


@pytest.fixture(scope="module")
def exact_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama in fp32, cache too: any two ways to the same logits differ by rounding only."""
    folder = tmp_path_factory.mktemp("bundles") / "exact"
    write(folder, tiny.LLAMA, Kind(), [PROMPT])
    return folder


def open_session(folder: Path, slots: int = 3) -> Session:
    bundle = read_manifest(folder)
    return Session(folder, bundle, KvCache(cache_shape(bundle, slots, _CONTEXT)), threads=1)


def whole(session: Session, tokens: list[int], slot: int = 0) -> np.ndarray:
    return session.prefill(slot, 0, tokens, samples=True)[0].copy()


def test_logits_are_one_row_of_the_vocabulary_or_none(exact_bundle: Path) -> None:
    session = open_session(exact_bundle)
    assert session.prefill(0, 0, PROMPT, samples=True).shape == (1, tiny.LLAMA.vocab_size)
    assert session.prefill(0, 0, PROMPT, samples=False).shape == (0, tiny.LLAMA.vocab_size)
    assert session.decode(0, [5, 6], [1, 1]).shape == (2, tiny.LLAMA.vocab_size)


@pytest.mark.parametrize("chunk", [1, 5, 11])
def test_chunks_and_steps_give_the_logits_of_one_prefill(exact_bundle: Path, chunk: int) -> None:
    session = open_session(exact_bundle)
    wanted = whole(session, PROMPT, slot=2)
    for start in range(0, len(PROMPT) - 1, chunk):
        session.prefill(1, start, PROMPT[start : min(start + chunk, len(PROMPT) - 1)], samples=False)
    logits = session.decode(1, PROMPT[-1:], [len(PROMPT) - 1])[0]
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


@pytest.mark.parametrize(
    "kind", [Kind("fp32", "int8"), Kind("int8", "float32"), Kind("int8", "int8"), Kind("int4", "int8")], ids=str
)
def test_chunks_change_little_where_numbers_are_rounded(tmp_path: Path, kind: Kind) -> None:
    write(tmp_path / "bundle", tiny.LLAMA, kind, [PROMPT])
    session = open_session(tmp_path / "bundle")
    wanted = whole(session, PROMPT)
    session.prefill(1, 0, PROMPT[:-1], samples=False)
    logits = session.decode(1, PROMPT[-1:], [len(PROMPT) - 1])[0]
    assert np.abs(logits - wanted).max() < 0.1 * np.abs(wanted).max()


def test_rows_of_one_step_have_lengths_of_their_own(exact_bundle: Path) -> None:
    session = open_session(exact_bundle)
    lengths = [12, 3, 7]
    wanted = [whole(session, PROMPT[:length]) for length in lengths]
    for slot, length in enumerate(lengths):
        session.prefill(slot, 0, PROMPT[: length - 1], samples=False)
    logits = session.decode(0, [PROMPT[length - 1] for length in lengths], [length - 1 for length in lengths])
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


def test_a_filler_row_harms_nobody(exact_bundle: Path) -> None:
    session = open_session(exact_bundle)
    wanted = whole(session, PROMPT, slot=1)
    for slot in (0, 2):
        session.prefill(slot, 0, PROMPT[:-1], samples=False)
    session.prefill(1, 0, PROMPT[:4], samples=False)
    rows = session.decode(0, [PROMPT[-1], 0, PROMPT[-1]], [11, 4, 11])
    np.testing.assert_allclose(rows[[0, 2]], [wanted, wanted], atol=1e-4)
    logits = session.prefill(1, 4, PROMPT[4:], samples=True)[0]
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


def test_a_copied_prefix_goes_on_where_it_was_in_both_slots(exact_bundle: Path) -> None:
    bundle = read_manifest(exact_bundle)
    cache = KvCache(cache_shape(bundle, 3, _CONTEXT))
    session = Session(exact_bundle, bundle, cache, threads=1)
    wanted = whole(session, PROMPT, slot=1)
    session.prefill(2, 0, PROMPT[:-1], samples=False)
    cache.copy(2, 0, len(PROMPT) - 4)
    session.prefill(0, len(PROMPT) - 4, PROMPT[-4:-1], samples=False)
    for slot in (0, 2):
        np.testing.assert_allclose(session.decode(slot, PROMPT[-1:], [11])[0], wanted, atol=1e-4)


@pytest.fixture(scope="module", params=["int4", "int8", "fp32"])
def served_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama with an int8 cache, as it is served."""
    folder = tmp_path_factory.mktemp("bundles") / "served"
    write(folder, tiny.LLAMA, Kind(request.param, "int8"), [PROMPT])
    return folder


def verify_is_decode(session: Session, prompt: Sequence[int], following: Sequence[int]) -> None:
    """Proves that tokens verified at once get the logits, to the last bit, that they get one by one."""
    start = len(prompt)
    for slot in (0, 1):
        session.prefill(slot, 0, prompt, samples=False)
    wanted = [session.decode(0, [token], [start + place])[0].copy() for place, token in enumerate(following)]
    for count in range(2, len(following) + 1):
        verified = session.verify(1, start, following[:count], count)
        np.testing.assert_array_equal(verified, wanted[:count])
    # What comes after guesses that did not hold is as if they had never been there.
    session.verify(1, start, [following[0], *reversed(following)], 1)
    np.testing.assert_array_equal(session.decode(1, [following[1]], [start + 1])[0], wanted[1])


def test_verified_tokens_have_the_logits_of_decoded_ones_bit_for_bit(served_bundle: Path) -> None:
    verify_is_decode(open_session(served_bundle), PROMPT, [61, 7, 250, 12, 99, 3, 3, 41])


@pytest.mark.slow
@pytest.mark.real_model
def test_verified_tokens_have_the_logits_of_decoded_ones_on_the_real_model(smollm2_bundle: Path) -> None:
    session = open_session(smollm2_bundle)
    verify_is_decode(session, [504 + 7 * place for place in range(40)], [28, 260, 2240, 314, 6, 28, 260, 2240])


@pytest.fixture(scope="module")
def mixing_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama, whose prompts attend in a way of their own."""
    folder = tmp_path_factory.mktemp("bundles") / "mixing"
    write(folder, tiny.LLAMA, Kind("int4", "int8", prompt_attention="float"), [PROMPT])
    return folder


def mixed_is_apart(session: Session, apart: Session, prompt: Sequence[int], chunks: Sequence[int]) -> None:
    """Proves that a prompt's chunks with a token for each of two rows are, to the last bit, chunks and steps apart."""
    for each in (session, apart):
        for slot in (1, 2):
            each.prefill(slot, 0, prompt[: 4 + slot], samples=False)
    start = 0
    for step, size in enumerate(chunks):
        chunk, tokens, positions = prompt[start : start + size], [7 + step, 9 + step], [5 + step, 6 + step]
        samples = step == len(chunks) - 1
        rows = [Row("", *each, samples=True) for each in zip(tokens, positions, strict=True)]
        of_chunk, of_rows = session.mixed(Prefill("", 0, start, chunk, samples), Decode(1, rows))
        of_chunk, of_rows = of_chunk.copy(), of_rows.copy()
        np.testing.assert_array_equal(of_chunk, apart.prefill(0, start, chunk, samples))
        np.testing.assert_array_equal(of_rows, apart.decode(1, tokens, positions))
        start += size


def test_a_chunk_with_rows_has_the_logits_of_both_apart_bit_for_bit(mixing_bundle: Path) -> None:
    mixed_is_apart(open_session(mixing_bundle), open_session(mixing_bundle), PROMPT, [5, 2, 3, 2])


@pytest.mark.slow
@pytest.mark.real_model
def test_a_chunk_with_rows_has_the_logits_of_both_apart_on_the_real_model(smollm2_bundle: Path) -> None:
    session, apart = open_session(smollm2_bundle), open_session(smollm2_bundle)
    mixed_is_apart(session, apart, [504 + 7 * place for place in range(48)], [8, 3, 16, 21])


def interrupted_prefill(session: Session, start: int, tokens: Sequence[int]) -> None:
    """Prefills slot 0 again and again, while another thread interrupts whatever runs, until a step is given up."""
    over = threading.Event()

    def interrupt() -> None:
        while not over.is_set():
            session.interrupt()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        try:
            for _ in range(_ATTEMPTS):
                session.prefill(0, start, tokens, samples=True)
        finally:
            over.set()


def test_an_interrupted_step_leaves_the_session_and_what_was_there_before(served_bundle: Path) -> None:
    session = open_session(served_bundle)
    wanted = whole(session, PROMPT, slot=1)
    session.prefill(0, 0, PROMPT[:6], samples=False)
    with pytest.raises(Interrupted):
        interrupted_prefill(session, 6, [200 + place for place in range(50)])
    np.testing.assert_array_equal(session.prefill(0, 6, PROMPT[6:], samples=True)[0], wanted)


@pytest.mark.parametrize(
    "step",
    [
        lambda session: session.prefill(0, 0, PROMPT, samples=True)[0].copy(),
        lambda session: session.verify(0, 0, PROMPT, len(PROMPT))[-1].copy(),
        lambda session: session.decode(0, PROMPT[:1], [0])[0].copy(),
    ],
    ids=["prefill", "verify", "decode"],
)
def test_an_interruption_between_two_steps_hits_nobody(
    served_bundle: Path, step: Callable[[Session], np.ndarray]
) -> None:
    session = open_session(served_bundle)
    session.interrupt()
    wanted = step(session)
    session.interrupt()
    np.testing.assert_array_equal(step(session), wanted)


@pytest.mark.slow
@pytest.mark.real_model
def test_a_long_step_of_the_real_model_is_given_up_within_an_operator(smollm2_bundle: Path) -> None:
    bundle = read_manifest(smollm2_bundle)
    session = Session(smollm2_bundle, bundle, KvCache(cache_shape(bundle, 1, 1024)), threads=2)
    prompt = [504 + 7 * (place % 900) for place in range(1024)]
    began_s = time.monotonic()
    session.prefill(0, 0, prompt, samples=False)
    whole_s = time.monotonic() - began_s
    ended = threading.Event()
    asked_s = []

    def interrupt() -> None:
        ended.wait(whole_s / 4)  # well within the step
        asked_s.append(time.monotonic())
        session.interrupt()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        with pytest.raises(Interrupted):
            session.prefill(0, 0, prompt, samples=False)
        ended.set()
    # Of some 300 operators the slowest takes less than a hundredth; neighbours get a tenth.
    assert time.monotonic() - asked_s[0] < whole_s / 10


def test_the_last_position_of_a_slot_can_be_used(exact_bundle: Path) -> None:
    session = open_session(exact_bundle)
    prompt = [5 + place for place in range(_CONTEXT)]
    wanted = whole(session, prompt, slot=1)
    session.prefill(0, 0, prompt[:-1], samples=False)
    np.testing.assert_allclose(session.decode(0, prompt[-1:], [_CONTEXT - 1])[0], wanted, atol=1e-4)


def test_bindings_are_bounded_and_an_evicted_one_comes_back(
    exact_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_BINDINGS", 4)
    session = open_session(exact_bundle)
    first = whole(session, PROMPT)
    for length in range(1, 9):
        session.prefill(1, 0, PROMPT[:length], samples=False)
        assert len(session._bindings) <= 4
    np.testing.assert_array_equal(whole(session, PROMPT), first)


def test_all_bindings_share_one_room_for_logits(exact_bundle: Path) -> None:
    session = open_session(exact_bundle, slots=3)
    session.decode(0, [5, 6], [0, 0])
    session.verify(0, 0, PROMPT[:5], 5)  # more rows than slots: the room grows
    session.decode(0, [5, 6, 7], [0, 0, 0])
    whole(session, PROMPT)
    assert len(session._logits) == 5
    assert all(np.shares_memory(each.logits, session._logits) for each in session._bindings.values())


def test_a_binding_in_use_stays(exact_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_BINDINGS", 2)
    session = open_session(exact_bundle)
    session.decode(0, [5], [0])
    used = next(iter(session._bindings))
    for length in (2, 3, 4):
        session.prefill(1, 0, PROMPT[:length], samples=False)
        session.decode(0, [5], [0])
    assert used in session._bindings


def test_another_target_is_refused(exact_bundle: Path) -> None:
    bundle = read_manifest(exact_bundle)
    bundle.graph.target = "cuda"
    with pytest.raises(SessionError, match=r"expected a bundle for cpu, got one for 'cuda'\. Export it with"):
        Session(exact_bundle, bundle, KvCache(cache_shape(bundle, 1, 16)))


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a"], ids=["empty", "text", "no graph in it"])
def test_a_broken_graph_is_one_line(exact_bundle: Path, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(exact_bundle, folder)
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(SessionError, match=r"expected a graph onnxruntime .* can load, got: .*\. Export the") as error:
        open_session(folder)
    assert "\n" not in str(error.value)


def test_weights_that_are_missing_are_one_line(exact_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(exact_bundle, folder)
    (folder / "model.onnx.data").unlink()
    with pytest.raises(SessionError, match="got: ") as error:
        open_session(folder)
    assert "\n" not in str(error.value)


def _with(bundle: bundle_pb2.Bundle, **architecture: int) -> bundle_pb2.Bundle:
    bundle.architecture.MergeFrom(bundle_pb2.Architecture(**architecture))
    return bundle


@pytest.mark.parametrize(
    "architecture", [{"num_layers": 4}, {"head_dim": 32}, {"vocab_size": 321}, {"num_kv_heads": 1}], ids=str
)
def test_a_manifest_that_describes_another_graph_is_an_error_and_no_crash(
    exact_bundle: Path, architecture: dict[str, int]
) -> None:
    bundle = _with(read_manifest(exact_bundle), **architecture)
    session = Session(exact_bundle, bundle, KvCache(cache_shape(bundle, 1, _CONTEXT)), threads=1)
    with pytest.raises(SessionError, match=r"\. (Export the model again|Check the bundle with)") as error:
        session.decode(0, [5], [0])
    assert "\n" not in str(error.value)
