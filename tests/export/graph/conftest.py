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
        self.own_prompts = "prompt_tokens" in [each.name for each in self.session.get_inputs()]
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
        self.caches = {
            each.name: np.zeros((slots, spec.num_kv_heads, capacity, spec.head_dim), dtypes[each.type])
            for each in self.session.get_inputs()
            if each.name.startswith("past")
        }

    def step(self, first_slot, tokens, pasts, logits=None, *, is_prompt=True):
        """Logits [rows, tokens, vocab] of new tokens [rows][tokens], after `pasts` tokens in each row.

        `logits`: of the first so many tokens only. `is_prompt` counts where prompts attend in a way of their own.
        """
        ids = np.array(tokens, np.int64)
        rows, width = ids.shape
        totals = [past + width for past in pasts]
        positions = np.tile(np.arange(width if logits is None else logits), (rows, 1))
        return self._run(ids, positions, (first_slot, totals), (first_slot, width if is_prompt else 0, totals[0]))

    def mixed(self, slot, chunk, past, first_slot, tokens, pasts):
        """Logits [chunk, vocab] and [rows, vocab]: a prompt's chunk in `slot`, and a token for each of some rows."""
        ids = np.array([[*chunk, *tokens]], np.int64)
        positions = np.arange(ids.size)[None]
        totals, prompt = [each + 1 for each in pasts], (slot, len(chunk), past + len(chunk))
        logits = self._run(ids, positions, (first_slot, totals), prompt)[0]
        return logits[: len(chunk)], logits[len(chunk) :]

    def _run(self, ids, positions, rows, prompt):
        first_slot, totals = rows
        prompt_slot, prompt_tokens, prompt_total = prompt
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("seqlens_k", np.array(totals, np.int32) - 1)
        binding.bind_cpu_input("total_sequence_length", np.array(max(totals), np.int32))
        binding.bind_cpu_input("logits_positions", positions)
        binding.bind_output("logits")
        self._bind_caches(binding, first_slot, len(totals))
        if self.own_prompts:
            binding.bind_cpu_input("prompt_tokens", np.array(prompt_tokens))
            binding.bind_cpu_input("prompt_total", np.array(prompt_total))
            self._bind_caches(binding, prompt_slot, 1, "prompt_key_values", "prompt_present")
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    def _bind_caches(self, binding, first_slot, rows, past="past_key_values", present="present"):
        for name, cache in self.caches.items():
            part = cache[first_slot : first_slot + rows]
            place = ("cpu", 0, part.dtype, part.shape, part.ctypes.data)
            binding.bind_input(name.replace("past_key_values", past), *place)
            binding.bind_output(name.replace("past_key_values", present), *place)


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
