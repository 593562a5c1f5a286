"""Graphs of the tiny models, and a runner of several rows, as the daemon runs them."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest

from bise_export.pipeline import ExportOptions, export
from golden import checkpoints, families, tiny


class Rows:
    """A graph with rows of cache; each row is a slot, and a step runs over neighbouring slots in place."""

    def __init__(self, folder, spec, slots, capacity=64):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, ["CPUExecutionProvider"])
        self.two_ways = "is_prompt" in [each.name for each in self.session.get_inputs()]
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
        self.caches = {
            each.name: np.zeros((slots, spec.num_kv_heads, capacity, spec.head_dim), dtypes[each.type])
            for each in self.session.get_inputs()
            if each.name.startswith("past")
        }

    def step(self, first_slot, tokens, pasts, logits=None, *, is_prompt=True):
        """Logits [rows, tokens, vocab] of new tokens [rows][tokens], after `pasts` tokens in each row.

        `logits`: of the first so many tokens only. `is_prompt` counts where there are two ways to attend.
        """
        ids = np.array(tokens, np.int64)
        rows, width = ids.shape
        totals = [past + width for past in pasts]
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("seqlens_k", np.array(totals, np.int32) - 1)
        binding.bind_cpu_input("total_sequence_length", np.array(max(totals), np.int32))
        if self.two_ways:
            binding.bind_cpu_input("is_prompt", np.array(is_prompt))
        wanted = np.arange(width if logits is None else logits)
        binding.bind_cpu_input("logits_positions", np.tile(wanted, (rows, 1)))
        binding.bind_output("logits")
        for name, cache in self.caches.items():
            part = cache[first_slot : first_slot + rows]
            place = ("cpu", 0, part.dtype, part.shape, part.ctypes.data)
            binding.bind_input(name, *place)
            binding.bind_output(name.replace("past_key_values", "present"), *place)
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()


@pytest.fixture(scope="session")
def rows():
    """The class, to be made with a bundle's folder."""
    return Rows


@pytest.fixture(scope="session")
def exported(tmp_path_factory, quiet):
    """Exports a tiny model by name with the given options; the same options give the same folder."""
    root = tmp_path_factory.mktemp("exported")
    sources, found, numbers = {}, {}, itertools.count()

    def source(folder, name):
        if name in families.SPECS:
            return families.write(folder, name)
        return checkpoints.write_huggingface(folder, tiny.SPECS[name], tiny.weights(tiny.SPECS[name]))

    def make(name, **options):
        key = (name, *sorted(options.items()))
        if key not in found:
            if name not in sources:
                sources[name] = source(root / name, name)
            found[key] = root / str(next(numbers))
            export(sources[name], found[key], ExportOptions(verify=False, **options), quiet)
        return found[key]

    return make
