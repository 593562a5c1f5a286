"""What is found out about a checkpoint before its first matrix is written; each finding is kept in the journal."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np

from bise_export import contents
from bise_export.budget import Ceiling
from bise_export.calibration import Calibration, calibrate, calibrating_bytes
from bise_export.contents import Matrix
from bise_export.journal import Journal
from bise_export.planning import Around, Goal, check_reachable, planned
from bise_export.prompts import CALIBRATION, token_prompts
from bise_export.quant.formats import Format
from bise_export.quant.kv import Cache, Int8Cache, scales_from_text, scales_text
from bise_export.quant.recipes import Recipe, format_named
from bise_export.quant.sensitivity import importance_of, losses, measuring_bytes
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.watched import Watched
from bise_export.sources.weight import Float32
from bise_export.steps import Progress
from bise_proto.v1 import bundle_pb2

# The journal's entries; matrices' are under their own names.
_SCALES, _IMPORTANCE, _PLAN = "kv_scales", "importance", "plan"


@dataclass(frozen=True)
class Findings:
    """Of one checkpoint, by running it over the calibration texts.

    Args:
        folder: where the bundle grows; its tokenizer is there.
    """

    checkpoint: Checkpoint
    folder: Path
    tokenizer: bundle_pb2.Tokenizer
    ceiling: Ceiling
    journal: Journal
    progress: Progress

    def cache(self, kind: Cache) -> Cache:
        """The cache of this kind; an int8 one with its scales."""
        if not isinstance(kind, Int8Cache):
            return kind
        spec = self.checkpoint.spec
        if (known := self.journal.get(_SCALES)) is not None:
            return Int8Cache(scales_from_text(known, spec.num_layers, spec.num_kv_heads, spec.head_dim))
        self.journal.add(_SCALES, scales_text(self._calibration.scales))
        return Int8Cache(self._calibration.scales)

    def importance(self, matrices: Sequence[Matrix]) -> dict[str, Float32]:
        """By name of each matrix, what an error in each of its columns costs; see `Format.encode`."""
        if (known := self.journal.get(_IMPORTANCE)) is not None:
            return {name: np.frombuffer(b64decode(text), "<f4") for name, text in json.loads(known).items()}
        tied = self.checkpoint.spec.tied_embeddings
        found = {
            each.name: columns
            for each in matrices
            if (columns := importance_of(each, self._calibration.mean_squares, tied=tied)) is not None
        }
        texts = {name: b64encode(columns.astype("<f4").tobytes()).decode("ascii") for name, columns in found.items()}
        self.journal.add(_IMPORTANCE, json.dumps(texts))
        return found

    def plan(self, goal: Goal, base: Recipe, importance: Mapping[str, Float32], around: Around) -> dict[str, Format]:
        """The format of each matrix that reaches the goal.

        Raises:
            ExportError: nothing does, or measuring takes more memory than there may be.
        """
        if (known := self.journal.get(_PLAN)) is not None:
            return {name: format_named(text) for name, text in json.loads(known).items()}
        spec, weights = self.checkpoint.spec, self.checkpoint.weights
        matrices = contents.matrices(spec, base)
        check_reachable(goal, matrices, base.block_size, around)
        self.ceiling.check(measuring_bytes(spec, self._prompts), "to measure sensitivity", ", or --precision int4")
        self.progress.step("measuring each matrix")
        self.progress.weights(sum(each.rows * each.columns for each in matrices))
        lost = losses(spec, weights, matrices, importance, self._prompts, self.progress.advance)
        found = planned(goal, matrices, base.block_size, around, weights, importance, lost)
        self.journal.add(_PLAN, json.dumps({name: form.name for name, form in found.items()}))
        return found

    @cached_property
    def _prompts(self) -> list[list[int]]:
        return token_prompts(self.folder, self.tokenizer, CALIBRATION)

    @cached_property
    def _calibration(self) -> Calibration:
        self.progress.step("calibrating")
        spec, weights = self.checkpoint.spec, self.checkpoint.weights
        self.ceiling.check(calibrating_bytes(spec, self._prompts), "to calibrate", ", or --precision int8 --kv fp32")
        watched = {
            name: Watched(weight, self.progress.advance)
            for name, weight in weights.items()
            if name.startswith("model.layers.")  # each is read once; of the embedding only the prompts' rows
        }
        self.progress.weights(sum(prod(weight.shape) for weight in watched.values()))
        return calibrate(spec, {**weights, **watched}, self._prompts)
