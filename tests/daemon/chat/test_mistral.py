"""Mistral's own tokenizers and instruct layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.format import ChatFormat, load_chat_format
from bise_daemon.chat.message import Message
from bise_daemon.chat.tokenizer import Tokenizer, load_tokenizer
from bise_daemon.errors import Reason, RequestError
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

BOS, EOS, INST, INST_END, SYSTEM, SYSTEM_END = 1, 2, 3, 4, 17, 18


@pytest.fixture(scope="session")
def tekken(tekken_folder: Path, tekken_bundle: bundle_pb2.Bundle) -> Tokenizer:
    return load_tokenizer(tekken_folder, tekken_bundle)


@pytest.fixture(scope="session")
def chat(tekken_folder: Path, tekken_bundle: bundle_pb2.Bundle, tekken: Tokenizer) -> ChatFormat:
    return load_chat_format(tekken_folder, tekken_bundle, tekken)


def test_the_layout_is_mistral_small_3s(chat: ChatFormat, tekken: Tokenizer) -> None:
    plain = {text: tekken.encode(text, add_bos=False) for text in ("Be brief.", "Hi", "Hello!", "And?")}

    prompt = chat.encode(
        Conversation(
            [
                Message("system", "Be brief."),
                Message("user", "Hi"),
                Message("assistant", "Hello!"),
                Message("user", "And?"),
            ]
        )
    )

    assert prompt.text == "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello!</s>[INST]And?[/INST]"
    assert prompt.token_ids == [
        *(BOS, SYSTEM, *plain["Be brief."], SYSTEM_END),
        *(INST, *plain["Hi"], INST_END, *plain["Hello!"], EOS),
        *(INST, *plain["And?"], INST_END),
    ]


@pytest.mark.parametrize("spelled", ["[/INST]", "</s>", "[SYSTEM_PROMPT]", "<SPECIAL_999>"])
def test_contents_that_spell_control_tokens_stay_literal(chat: ChatFormat, tekken: Tokenizer, spelled: str) -> None:
    token_ids = chat.encode(Conversation([Message("user", f"a{spelled}b")])).token_ids

    assert [token_id for token_id in token_ids if token_id < 1000] == [BOS, INST, INST_END]
    assert b"".join(map(tekken.token_bytes, token_ids)) == f"<s>[INST]a{spelled}b[/INST]".encode()


def test_a_raw_prompt_may_spell_control_tokens(tekken: Tokenizer) -> None:
    assert tekken.encode("[INST][/INST]") == [BOS, INST, INST_END]
    assert tekken.encode("<s>[INST]", add_bos=True) == [BOS, INST]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example(text="<s")
def test_text_survives_the_round_trip(tekken: Tokenizer, text: str) -> None:
    token_ids = tekken.encode(text, add_bos=False)
    assume(all(token_id >= 1000 for token_id in token_ids))  # a raw prompt may spell control tokens, see above
    detokenizer = tekken.detokenizer()
    pushes = [detokenizer.push(token_id) for token_id in token_ids]

    assert "".join([*pushes, detokenizer.finish()]) == text


@given(numbers=st.lists(st.integers(0, 3999), max_size=30))
def test_pushes_join_to_the_lossy_decoding(tekken: Tokenizer, numbers: list[int]) -> None:
    detokenizer = tekken.detokenizer()
    pushes = [detokenizer.push(number) for number in numbers]
    content = b"".join(tekken.token_bytes(number) for number in numbers if number >= 1000)

    assert "".join([*pushes, detokenizer.finish()]) == content.decode("utf-8", errors="replace")


@pytest.mark.parametrize("token_id", [-1, 4000, 1 << 40])
def test_ids_beyond_the_vocabulary_are_empty(tekken: Tokenizer, token_id: int) -> None:
    assert tekken.token_bytes(token_id) == b""


def test_turns_mistral_common_refuses_are_explained(chat: ChatFormat) -> None:
    turns = [Message("user", "Hi"), Message("assistant", ""), Message("user", "x" * 10_000)]

    with pytest.raises(RequestError, match=r"messages: expected turns in Mistral's instruct format") as refusal:
        chat.encode(Conversation(turns))
    assert refusal.value.reason is Reason.INVALID_MESSAGE
    assert len(refusal.value.message) < 1000


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("{}"),
        lambda path: path.write_text("[" * 100),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text(json.dumps({"config": {"version": "v999"}})),
        lambda path: path.write_text(json.dumps({"config": {"version": "v7"}, "vocab": [{}]})),
    ],
    ids=["empty", "not JSON", "not UTF-8", "unknown version", "no settings"],
)
def test_a_broken_file_is_named(
    tmp_path: Path, tekken_bundle: bundle_pb2.Bundle, damage: Callable[[Path], object]
) -> None:
    (tmp_path / "tokenizer").mkdir()
    damage(tmp_path / tekken_bundle.tokenizer.file)

    with pytest.raises(BundleError, match=r"tekken\.json: expected a tokenizer that mistral-common reads, got"):
        load_tokenizer(tmp_path, tekken_bundle)


@pytest.mark.parametrize("count", [1 << 40, -1, "many", None])
def test_special_tokens_are_counted_before_they_are_made(
    tmp_path: Path, tekken_folder: Path, tekken_bundle: bundle_pb2.Bundle, count: object
) -> None:
    values = json.loads((tekken_folder / tekken_bundle.tokenizer.file).read_bytes())
    values["config"]["default_num_special_tokens"] = count
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / tekken_bundle.tokenizer.file).write_text(json.dumps(values))

    with pytest.raises(BundleError, match=r"tekken\.json: expected a tokenizer that mistral-common reads, got"):
        load_tokenizer(tmp_path, tekken_bundle)


@pytest.fixture
def sentencepiece_bundle(tmp_path: Path, mistral_data: Path) -> bundle_pb2.Bundle:
    (tmp_path / "tokenizer").mkdir()
    model = "mistral_instruct_tokenizer_240323.model.v3"
    shutil.copy(mistral_data / model, tmp_path / "tokenizer" / "tokenizer.model.v3")
    return bundle_pb2.Bundle(
        chat_format=bundle_pb2.MISTRAL,
        architecture=bundle_pb2.Architecture(vocab_size=32_768),
        tokenizer=bundle_pb2.Tokenizer(
            kind=bundle_pb2.Tokenizer.SENTENCEPIECE, file="tokenizer/tokenizer.model.v3", add_bos=True, bos_token_id=1
        ),
    )


def test_sentencepiece_contents_stay_literal_and_text_survives(
    tmp_path: Path, sentencepiece_bundle: bundle_pb2.Bundle
) -> None:
    pytest.importorskip("sentencepiece")
    tokenizer = load_tokenizer(tmp_path, sentencepiece_bundle)
    token_ids = load_chat_format(tmp_path, sentencepiece_bundle, tokenizer).encode(
        Conversation([Message("user", "[/INST] é🤗")])
    )
    answer = tokenizer.encode("The bise 🤗 blows.", add_bos=False)
    detokenizer = tokenizer.detokenizer()

    assert [token_id for token_id in token_ids.token_ids if token_id < 5] == [BOS, INST, INST_END]
    assert "".join([*map(detokenizer.push, answer), detokenizer.finish()]) == "The bise 🤗 blows."


def test_a_missing_sentencepiece_library_is_named(
    tmp_path: Path, sentencepiece_bundle: bundle_pb2.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ImportError("`sentencepiece` is not installed")

    monkeypatch.setattr("mistral_common.tokens.tokenizers.sentencepiece.assert_sentencepiece_installed", missing)

    with pytest.raises(BundleError, match=r"sentencepiece library .* pip install 'mistral-common\[sentencepiece\]'"):
        load_tokenizer(tmp_path, sentencepiece_bundle)
