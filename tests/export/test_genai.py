"""The same bundle in onnxruntime-genai: an engine of other authors says the same tokens, families and caches alike."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime_genai
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE, Unigram

from bise_export import genai
from bise_export.errors import UnsupportedError
from bise_export.pipeline import ExportOptions, export
from bise_export.runner import Runner
from bise_proto.bundle import check_files, read_manifest
from bise_proto.v1 import bundle_pb2
from golden import checkpoints, families, oracle, tiny

PROMPTS = [np.random.default_rng(seed).integers(3, 320, length).tolist() for seed, length in enumerate((1, 5, 23, 40))]
TOKENS = 24
SPECS = {"llama": tiny.LLAMA, **families.SPECS}
KINDS = [("int4", "int8"), ("int8", "fp32"), ("fp32", "fp32"), ("fp16", "fp16")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, quiet):
    """A tiny family's checkpoint, exported for both engines."""
    root, found = tmp_path_factory.mktemp("bundles"), {}

    def make(name, precision="fp32", kv="fp32"):
        if (name, precision, kv) not in found:
            source = root / f"{name}-checkpoint"
            if name in families.SPECS:
                families.write(source, name)
            else:
                checkpoints.write_huggingface(source, SPECS[name], tiny.weights(SPECS[name]))
            target = found[name, precision, kv] = root / f"{name}-{precision}-{kv}"
            export(source, target, ExportOptions(precision=precision, kv=kv, interop="genai", verify=False), quiet)
        return found[name, precision, kv]

    return make


def expected(folder):
    """What bise's graph says after each prompt, before the oracle's end."""
    runner = Runner(folder, (folder / "model.onnx").read_bytes(), "cpu", 64)
    answers = [runner.greedy(prompt, TOKENS) for prompt in PROMPTS]
    return [answer[: [*answer, oracle.end(folder)].index(oracle.end(folder))] for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("name", SPECS)
def test_every_family_says_the_same_tokens_over_every_cache(bundle, name, kind):
    folder = bundle(name, *kind)

    assert oracle.greedy(folder, PROMPTS, TOKENS) == expected(folder)


@pytest.mark.parametrize("kind", [("fp32", "fp32"), ("fp32", "int8")], ids="-".join)
def test_a_batch_of_prompts_of_several_lengths_says_the_same_tokens(bundle, kind):
    """Rows are padded at their ends, so each row's last token stands elsewhere."""
    folder = bundle("llama", *kind)
    model = onnxruntime_genai.Model(oracle.config(folder))
    options = onnxruntime_genai.GeneratorParams(model)
    width = max(map(len, PROMPTS))
    options.set_search_options(batch_size=len(PROMPTS), max_length=width + TOKENS)
    generator = onnxruntime_genai.Generator(model, options)
    padding = read_manifest(folder).tokenizer.eos_token_ids[0]
    generator.append_tokens(np.array([[*row, *[padding] * (width - len(row))] for row in PROMPTS], np.int32))
    generator.generate_next_token()

    firsts = [int(generator.get_sequence(row)[-1]) for row in range(len(PROMPTS))]
    assert firsts == [tokens[0] for tokens in expected(folder)]


def sentencepiece():
    """A tokenizer as Llama 2's: spaces are a visible character, and what is in no token goes by bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abdehilorwnt", "he", "▁w", "the"]
    tokenizer = Tokenizer(
        BPE(
            {token: number for number, token in enumerate(tokens)},
            [("h", "e"), ("▁", "w"), ("t", "he")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in tokens[:3]])
    return tokenizer


@pytest.mark.parametrize("form", ["byte_level", "sentencepiece"])
def test_its_tokenizer_cuts_texts_as_bises_does(tmp_path, quiet, form):
    source = checkpoints.write_huggingface(tmp_path / "hf", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    if form == "sentencepiece":
        sentencepiece().save(str(source / "tokenizer.json"))
    folder = tmp_path / "bundle"
    export(source, folder, ExportOptions(precision="fp32", interop="genai", verify=False), quiet)
    theirs = onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(folder)))
    ours = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))

    for text in ("The wind blew over the lake.", "  größer 東京 🌬️\n\n 1234", "the wind</s>held", ""):
        assert list(theirs.encode(text)) == ours.encode(text, add_special_tokens=False).ids
    assert theirs.decode(theirs.encode("größer 東京")).strip() == "größer 東京"
    asked = theirs.apply_chat_template(json.dumps([{"role": "user", "content": "Hi"}]), add_generation_prompt=True)
    assert asked == "<s>user: Hi</s>assistant:"


def test_a_base_model_needs_no_chat_template(tmp_path, quiet):
    source = checkpoints.write_huggingface(tmp_path / "base", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    (source / "tokenizer_config.json").unlink()
    folder = tmp_path / "bundle"
    bundle = export(source, folder, ExportOptions(precision="fp32", interop="genai", verify=False), quiet)

    assert bundle.chat_format == bundle_pb2.NONE
    assert oracle.greedy(folder, PROMPTS[:1], TOKENS) == expected(folder)[:1]


def test_the_files_are_the_bundles_and_share_its_weights(tmp_path, tiny_huggingface, quiet):
    plain, both = tmp_path / "plain", tmp_path / "both"
    export(tiny_huggingface, plain, ExportOptions(precision="fp32", verify=False), quiet)
    export(tiny_huggingface, both, ExportOptions(precision="fp32", interop="genai", verify=False), quiet)

    names = [{file.path for file in check_files(folder, read_manifest(folder))} for folder in (plain, both)]
    assert names[1] - names[0] == {"model.genai.onnx", "genai_config.json", "tokenizer/tokenizer_config.json"}
    for name in ("model.onnx", "model.onnx.data"):
        assert (plain / name).read_bytes() == (both / name).read_bytes()
    assert (both / "model.genai.onnx").stat().st_size < 100_000


def test_what_it_could_not_open_is_refused_by_name(tmp_path, tiny_mistral, tiny_huggingface, quiet):
    with pytest.raises(UnsupportedError, match=r"tokenizer.json, got tekken.json.* Leave it out"):
        export(tiny_mistral, tmp_path / "tekken", ExportOptions(interop="genai"), quiet)
    with pytest.raises(UnsupportedError, match="expected --target cpu, got cuda"):
        export(tiny_huggingface, tmp_path / "cuda", ExportOptions(interop="genai", target="cuda"), quiet)
    checkpoints.write_json(tiny_huggingface / "generation_config.json", {"eos_token_id": []})
    with pytest.raises(UnsupportedError, match="expected an end token"):
        export(tiny_huggingface, tmp_path / "endless", ExportOptions(interop="genai"), quiet)
    assert list(tmp_path.glob("*/bundle.json")) == []


def test_a_unigram_tokenizer_is_refused(tmp_path):
    Tokenizer(Unigram([("a", 0.0)], unk_id=0)).save(str(tmp_path / "tokenizer.json"))
    stored = bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.TOKENIZERS, file="tokenizer.json", eos_token_ids=[0])

    with pytest.raises(UnsupportedError, match="expected a BPE tokenizer, got Unigram"):
        genai.check("cpu", tmp_path, stored)
