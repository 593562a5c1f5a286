"""Bundles of a size that is asked for: reached, never exceeded, the same each time, or refused with the least."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bise_export import findings
from bise_export.contents import EMBEDDING, HEAD, pieces_of
from bise_export.errors import ExportError, UnsupportedError
from bise_export.pipeline import ExportOptions, export
from bise_export.planning import Bits, Fit, smallest
from bise_export.quant.recipes import candidates
from bise_export.verify import verify
from bise_proto.bundle import read_manifest
from golden import checkpoints, tiny

# Wide enough for every block size, and for differences between formats to be more than what surrounds the matrices.
SPEC = replace(tiny.LLAMA, hidden_size=256, intermediate_size=512)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return checkpoints.write_huggingface(tmp_path_factory.mktemp("wide") / "wide", SPEC, tiny.weights(SPEC))


def mixed(goal, **more):
    return ExportOptions(precision="mixed", goal=goal, verify=False, **more)


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("bits", [3.0, 3.5, 4.5, 6.0])
def test_the_bits_of_the_manifest_are_those_asked_for(source, tmp_path, quiet, bits):
    found = export(source, tmp_path / "bundle", mixed(Bits(bits)), quiet).quantization

    assert found.precision == "mixed"
    assert bits - 0.1 < found.bits_per_weight <= bits
    assert len({each.format for each in found.classes if each.name in ("attention", "mlp")}) > 1
    assert verify(tmp_path / "bundle").problems == []


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("formats", [(4, 8), (8, 2)])
def test_pieces_of_a_vocabulary_in_several_formats_are_one_to_the_graph(tmp_path, quiet, monkeypatch, tied, formats):
    spec = replace(SPEC, tied_embeddings=tied)
    source = checkpoints.write_huggingface(tmp_path / "source", spec, tiny.weights(spec))

    def planned(_goal, matrices, block_size, *_others):
        found = smallest(matrices, block_size, 1)
        for name in (EMBEDDING, HEAD):
            for piece, bits in zip(pieces_of(matrices, name), formats, strict=False):
                found[piece.name] = next(
                    each for each in candidates(block_size, piece.kind, piece.columns) if each.bits == bits
                )
        return found

    monkeypatch.setattr(findings, "planned", planned)
    found = export(source, tmp_path / "bundle", mixed(Bits(5)), quiet).quantization

    kinds = ("embedding",) if tied else ("embedding", "head")
    assert [each.name for each in found.classes if each.name in ("embedding", "head")] == [
        kind for kind in kinds for _ in formats
    ]
    assert verify(tmp_path / "bundle").problems == []


@pytest.mark.slow
def test_the_bundle_has_the_size_asked_for(source, tmp_path, quiet):
    whole = size(export_folder(source, tmp_path / "int4", ExportOptions(verify=False), quiet))
    asked = whole - 100_000

    found = size(export_folder(source, tmp_path / "fit", mixed(Fit(asked)), quiet))

    assert asked - 100_000 < found <= asked


def export_folder(source, target, options, quiet):
    export(source, target, options, quiet)
    return target


@pytest.mark.slow
def test_two_plans_of_the_same_source_are_the_same_files(source, tmp_path, quiet):
    one, other = (
        contents(export_folder(source, tmp_path / name, mixed(Bits(3.5), threads=threads), quiet))
        for name, threads in (("one", 1), ("other", 3))
    )

    assert one == other


class Stopped:
    """A progress at which the person presses Ctrl-C when the first matrices are written."""

    def __init__(self):
        self.steps = []

    def step(self, name):
        self.steps.append(name)

    def warn(self, text):
        raise AssertionError(text)

    def weights(self, parameters):
        pass

    def advance(self, parameters):
        if self.steps[-1].startswith("writing"):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_one_goes_on_with_its_plan_to_the_same_bytes(source, tmp_path, quiet):
    options, again = mixed(Bits(3.5), name="wide"), Stopped()
    with pytest.raises(KeyboardInterrupt):
        export(source, tmp_path / "bundle", options, Stopped())
    again.advance = lambda _parameters: None

    export(source, tmp_path / "bundle", options, again)

    assert "measuring each matrix" not in again.steps
    assert "calibrating" not in again.steps
    assert contents(tmp_path / "bundle") == contents(export_folder(source, tmp_path / "whole", options, quiet))


@pytest.mark.slow
def test_more_bits_lose_less(source, tmp_path, quiet):
    lost = [
        export(source, tmp_path / str(bits), replace(mixed(Bits(bits)), verify=True), quiet).accuracy.mean_kl
        for bits in (2.6, 3.5, 5.0)
    ]

    assert lost == sorted(lost, reverse=True)


@pytest.mark.slow
def test_plans_keep_to_formats_whose_rows_stay_the_same_unless_larger_blocks_are_allowed(source, tmp_path, quiet):
    formats = {
        block_size: {
            each.format
            for each in export(
                source, tmp_path / str(block_size), mixed(Bits(3.5), block_size=block_size), quiet
            ).quantization.classes
        }
        for block_size in (32, 128)
    }

    assert not formats[32] & {"int4 block 64", "int4 block 128"}
    assert formats[128] & {"int4 block 64", "int4 block 128"}


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (Bits(1.9), r"--bits 1\.9: expected --bits 2\.\d\d or more"),
        (Fit(10_000), r"--fit 10000: expected --fit \d+MiB or more"),
    ],
)
def test_what_no_plan_reaches_is_refused_with_the_least_that_one_does(source, tmp_path, quiet, goal, message):
    with pytest.raises(ExportError, match=message):
        export(source, tmp_path / "bundle", mixed(goal), quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_least_that_is_told_can_be_reached(source, tmp_path, quiet):
    with pytest.raises(ExportError) as refused:
        export(source, tmp_path / "bundle", mixed(Bits(1.9)), quiet)
    least = float(str(refused.value).split("expected --bits ")[1].split()[0])

    assert export(source, tmp_path / "bundle", mixed(Bits(least)), quiet).quantization.bits_per_weight <= least
    assert read_manifest(tmp_path / "bundle").quantization.precision == "mixed"


@pytest.mark.parametrize("options", [ExportOptions(precision="mixed"), ExportOptions(goal=Bits(4))])
def test_a_goal_and_mixed_precision_go_together(source, tmp_path, quiet, options):
    with pytest.raises(UnsupportedError, match="expected --bits or --fit"):
        export(source, tmp_path / "bundle", options, quiet)
