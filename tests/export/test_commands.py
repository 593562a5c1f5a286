"""`bise export`, `inspect` and `verify` as a person runs them: above all what they say when something is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bise_export import bundle_commands, commands
from bise_proto.trust.signature import SIGNATURE
from golden import checkpoints, tiny
from golden.keys import write_keys

APP = typer.Typer()
for command in (commands.export, bundle_commands.inspect, bundle_commands.verify, bundle_commands.sign):
    APP.command()(command)


def bise(*arguments):
    return CliRunner().invoke(APP, [str(each) for each in arguments])


def huggingface(folder, **settings):
    return checkpoints.write_huggingface(folder, tiny.LLAMA, tiny.weights(tiny.LLAMA), **settings)


def truncated_gguf(folder):
    path = checkpoints.write_gguf(folder / "cut.gguf", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def truncated_header(folder):
    path = checkpoints.write_gguf(folder / "cut.gguf", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    path.write_bytes(path.read_bytes()[:100])
    return path


def no_gguf(folder):
    folder.mkdir()
    (folder / "no.gguf").write_bytes(b"<html>not found</html>")
    return folder / "no.gguf"


def weights_that_are_no_numbers(folder):
    weights = tiny.weights(tiny.LLAMA)
    weights["model.layers.2.mlp.up_proj.weight"][7, 3] = np.nan
    return checkpoints.write_huggingface(folder, tiny.LLAMA, weights)


def missing_shard(folder):
    huggingface(folder, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    return folder


def shard_outside(folder):
    huggingface(folder, shards=2)
    index = folder / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    name = sorted(values["weight_map"])[0]
    values["weight_map"][name] = "../../etc/passwd"
    index.write_text(json.dumps(values))
    return folder


def unsupported_rope(folder):
    return huggingface(folder, config={"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}})


def missing_weight(folder):
    weights = tiny.weights(tiny.LLAMA)
    del weights["model.layers.1.mlp.up_proj.weight"]
    return checkpoints.write_huggingface(folder, tiny.LLAMA, weights)


def unused_weight(folder):
    weights = tiny.weights(tiny.LLAMA) | {"model.layers.0.self_attn.q_proj.lora": np.zeros((2, 2), np.float32)}
    return checkpoints.write_huggingface(folder, tiny.LLAMA, weights)


def wrong_shape(folder):
    weights = tiny.weights(tiny.LLAMA) | {"model.norm.weight": np.zeros(63, np.float32)}
    return checkpoints.write_huggingface(folder, tiny.LLAMA, weights)


def pickle(folder):
    huggingface(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def odd_head(folder):
    spec = replace(tiny.LLAMA, num_kv_heads=4)
    return checkpoints.write_huggingface(folder, spec, tiny.weights(spec), config={"num_key_value_heads": 3})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (truncated_gguf, ["cut.gguf", "expected data to byte", "the file has"]),
        (truncated_header, ["cut.gguf", "expected"]),
        (no_gguf, ["no.gguf", "expected", "got"]),
        (weights_that_are_no_numbers, ["model.safetensors", "up_proj", "finite", "got nan", "[7, 3]"]),
        (missing_shard, ["model-00002-of-00003.safetensors"]),
        (shard_outside, ["model.safetensors.index.json", "../../etc/passwd"]),
        (unsupported_rope, ["config.json", "dynamic"]),
        (missing_weight, ["model.layers.1.mlp.up_proj.weight"]),
        (unused_weight, ["model.layers.0.self_attn.q_proj.lora"]),
        (wrong_shape, ["model.norm.weight", "63", "64"]),
        (pickle, ["pytorch_model.bin", "pickle", "safetensors"]),
        (odd_head, ["num_kv_heads", "expected", "got 3"]),
        (lambda folder: folder / "nowhere", ["nowhere", "expected", "no such file"]),
    ],
)
def test_a_wrong_source_is_one_line_and_leaves_nothing(tmp_path, make, says):
    source = make(tmp_path / "source")

    result = bise("export", source, tmp_path / "out" / "bundle")

    assert result.exit_code == 1
    (line,) = (each for each in result.stderr.splitlines() if each.startswith("bise export:"))
    assert result.stderr.rstrip().endswith(line)
    for part in says:
        assert part in line
    assert line.count(". ") >= 1, "a next step follows"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_existing_target_is_kept(tiny_gguf, tmp_path):
    target = tmp_path / "bundle"
    assert bise("export", tiny_gguf, target, "--no-verify").exit_code == 0
    before = (target / "bundle.json").read_bytes()

    result = bise("export", tiny_gguf, target, "--precision", "int8", "--no-verify")

    assert result.exit_code == 1
    assert "expected a path where nothing is yet. Choose another, or give --overwrite" in result.stderr
    assert (target / "bundle.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "tiny.gguf"]

    assert bise("export", tiny_gguf, target, "--precision", "int8", "--no-verify", "--overwrite").exit_code == 0
    assert (target / "bundle.json").read_bytes() != before


def test_overwriting_what_is_no_bundle_is_refused(tiny_gguf, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")

    result = bise("export", tiny_gguf, tmp_path / "home", "--overwrite")

    assert result.exit_code == 1
    assert "--overwrite replaces bundles only, and this is none. Choose another path." in result.stderr
    assert (tmp_path / "home" / "letter").read_text() == "dear"


@pytest.mark.parametrize(
    "option", [("--precision", "int3"), ("--block-size", "48"), ("--kv", "int4"), ("--target", "npu")]
)
def test_a_value_that_is_none_is_refused_with_those_that_are(tiny_gguf, tmp_path, option):
    result = bise("export", tiny_gguf, tmp_path / "bundle", *option)

    assert result.exit_code == 2
    assert option[1] in result.stderr
    assert not (tmp_path / "bundle").exists()


def test_an_export_says_what_it_made(tiny_gguf, tmp_path):
    result = bise("export", tiny_gguf, tmp_path / "bundle", "--name", "small", "--no-verify")

    assert result.exit_code == 0
    assert "small → " in result.stderr
    assert "bits per weight" in result.stderr
    assert result.stdout == ""


def test_a_bundle_is_inspected_for_people_and_programs(tiny_bundle):
    shown, told = bise("inspect", tiny_bundle), bise("inspect", tiny_bundle, "--json")

    assert "bits per weight" in shown.stdout
    assert json.loads(told.stdout) == json.loads((tiny_bundle / "bundle.json").read_text())


def test_inspect_says_which_key_signed(tiny_bundle, tmp_path):
    bundle, keys = shutil.copytree(tiny_bundle, tmp_path / "bundle"), write_keys(tmp_path, "ours")
    bise("sign", bundle, "--key", keys.private)

    shown = bise("inspect", bundle)
    (bundle / SIGNATURE).write_text("{}")
    broken = bise("inspect", bundle)

    assert hashlib.sha256(keys.public.read_bytes()).hexdigest() in shown.stdout.replace("\n", "")
    assert broken.exit_code == 1
    assert "bundle.sig: expected a signature of model-signing 1.0" in broken.stderr
    assert bise("inspect", bundle, "--json").exit_code == 0


@pytest.mark.slow
def test_a_bundle_is_verified_for_people_and_programs(tiny_gguf, tmp_path):
    bise("export", tiny_gguf, tmp_path / "bundle", "--no-verify")

    shown = bise("verify", tmp_path / "bundle")
    told = bise("verify", tmp_path / "bundle", "--against", tiny_gguf, "--no-store", "--json")

    assert (shown.exit_code, told.exit_code) == (0, 0)
    assert "--against CHECKPOINT" in shown.stdout
    found = json.loads(told.stdout)
    assert found["problems"] == []
    assert found["accuracy"]["mean_kl"] > found["parity"]["mean_kl"]
    assert (found["stored_accuracy"], found["stored"]) == (None, False)


@pytest.mark.slow
def test_what_verify_measured_is_in_the_bundle_then(tiny_gguf, tmp_path):
    bundle = tmp_path / "bundle"
    bise("export", tiny_gguf, bundle, "--no-verify")

    told = bise("verify", bundle, "--against", tiny_gguf, "--json")
    stored = json.loads((bundle / "bundle.json").read_text())["accuracy"]
    again = bise("verify", bundle, "--against", tiny_gguf)

    found = json.loads(told.stdout)
    assert found["stored"]
    assert (stored["reference"], stored["mean_kl"]) == ("numpy float32", found["accuracy"]["mean_kl"])
    assert again.exit_code == 0
    assert "measured now, and stored" in again.stdout


@pytest.mark.slow
def test_a_signed_bundles_report_is_printed_and_not_stored(tiny_gguf, tmp_path):
    bundle, keys = tmp_path / "bundle", write_keys(tmp_path, "ours")
    bise("export", tiny_gguf, bundle, "--no-verify")
    bise("sign", bundle, "--key", keys.private)

    told = bise("verify", bundle, "--against", tiny_gguf, "--trusted-key", keys.public, "--json")

    assert told.exit_code == 0
    assert json.loads(told.stdout)["accuracy"]["positions"] > 0
    assert not json.loads(told.stdout)["stored"]
    assert f"not stored: {bundle} is signed, and its manifest with it." in told.stderr
    assert bise("verify", bundle, "--trusted-key", keys.public).exit_code == 0


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_bundle_is_one_line(tmp_path, command):
    result = bise(command, tmp_path)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"bise {command}: {tmp_path}: not a bundle: expected")


def test_a_flipped_byte_is_one_line(tiny_gguf, tmp_path):
    bise("export", tiny_gguf, tmp_path / "bundle", "--no-verify")
    weights = tmp_path / "bundle" / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)

    result = bise("verify", tmp_path / "bundle")

    assert result.exit_code == 1
    assert "model.onnx.data: expected sha256" in result.stderr.splitlines()[-1]
    assert "Copy the bundle again" in result.stderr.splitlines()[-1]


def test_an_interrupt_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("bise_export.pipeline.export", interrupt)
    ran = bise("export", huggingface(tmp_path / "source"), tmp_path / "bundle")

    assert ran.exit_code == 130
    assert "the same command goes on from here" in ran.output


def test_a_size_that_is_none_is_told_in_a_line(tmp_path):
    ran = bise("export", huggingface(tmp_path / "source"), tmp_path / "bundle", "--max-memory", "much")

    assert ran.exit_code == 1
    assert "--max-memory: expected a size such as 4GiB or 500MB, got 'much'" in ran.output
