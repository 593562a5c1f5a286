"""The full-scale bench's checkpoint: the same numbers in pieces or whole, on demand or from disk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.bench import synthetic

from bise_export.sources.open import open_checkpoint

SMALL = replace(
    synthetic.MISTRAL_SMALL_3,
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
)


def test_rows_do_not_depend_on_what_else_is_read():
    weight = synthetic.Generated("some", (3000, 5120))  # more than the tape has
    whole = weight.rows(700, 900)

    np.testing.assert_array_equal(whole, np.concatenate([weight.rows(700, 801), weight.rows(801, 900)]))
    assert not np.array_equal(whole[:100], whole[100:])
    assert not np.array_equal(whole, synthetic.Generated("other", (3000, 5120)).rows(700, 900))


def test_matrices_keep_the_size_of_what_passes_through_them():
    values = synthetic.Generated("some", (256, 5120)).rows(0, 256)

    assert 0.5 < values.std() * 5120**0.5 < 2
    np.testing.assert_array_equal(synthetic.Generated("norm", (64,)).rows(0, 64), np.ones(64, np.float32))


def test_both_forms_hold_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "_SHARD_BYTES", 200_000)
    on_disk = open_checkpoint(synthetic.write_checkpoint(SMALL, tmp_path))
    on_demand = synthetic.generated(SMALL, tmp_path)

    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert on_disk.spec == on_demand.spec
    assert on_disk.weights.keys() == on_demand.weights.keys()
    for name, weight in on_disk.weights.items():
        np.testing.assert_array_equal(weight.rows(0, 40), on_demand.weights[name].rows(0, 40))
