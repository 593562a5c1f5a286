"""The self-test: a model that does not answer is not served, and one that does is left as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bise import Client
from bise_daemon.canary import CanaryError
from bise_daemon.engine.runner import Logits
from bise_daemon.models.model import Model, load_model
from running import running

pytestmark = pytest.mark.slow


class Mute:
    """A session whose logits are no numbers."""

    def __init__(self, model: Model) -> None:
        self._vocab_size = model.bundle.architecture.vocab_size

    def prefill(self, slot: int, start: int, tokens: Any, samples: bool) -> Logits:
        return np.full((1, self._vocab_size), np.nan, np.float32)

    def interrupt(self) -> None:
        pass


def test_a_model_that_gives_no_numbers_is_not_served(tiny_bundle: Path, tmp_path: Path) -> None:
    def load(config: Any, loading: Any) -> Model:
        model = load_model(config, loading)
        return replace(model, session=Mute(model))  # type: ignore[arg-type]  # as much as the engine needs

    def ask() -> None:
        with running(tiny_bundle, tmp_path, load=load) as daemon:
            daemon.ended.exception(60)

    with pytest.raises(CanaryError, match="expected a token of the model, got: ENGINE_FAILED"):
        ask()


def test_it_leaves_no_prefix_behind(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        status = client.status()
        assert (status.steps, status.kv_idle_bytes, status.slots_used) == (1, 0, 0)
