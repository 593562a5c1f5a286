"""What stands beside another exporter's graph, from either of two files."""

from __future__ import annotations

import json

import pytest

from bise_export.errors import SourceError
from bise_export.foreign.decoder import read_decoder
from bise_export.foreign.facts import read_facts


def test_both_files_say_the_same_of_their_models(foreign):
    found = [read_facts(file.parent, read_decoder(file)) for file in (foreign("genai"), foreign("optimum"))]

    assert [facts.family for facts in found] == ["llama", "mistral"]
    for facts in found:
        assert (facts.hidden_size, facts.num_heads, facts.head_dim) == (32, 2, 16)
        assert (facts.vocab_size, facts.trained_context) == (320, 256)
        assert (facts.bos_token_id, facts.eos_token_ids) == (1, (2,))
    assert [[file.name for file in facts.files] for facts in found] == [
        ["genai_config.json"],
        ["config.json", "generation_config.json"],
    ]


def test_generation_goes_by_its_own_file(foreign):
    file = foreign("optimum")
    (file.parent / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert read_facts(file.parent, read_decoder(file)).eos_token_ids == (2, 7)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers: expected 2, as the graph has it, got 3"),
        ({"num_key_value_heads": 2}, "num_key_value_heads: expected 1"),
        ({"head_dim": 32}, "head_dim: expected 16"),
        ({"max_position_embeddings": 1 << 30}, "max_position_embeddings: expected 1 to"),
        ({"max_position_embeddings": "many"}, "max_position_embeddings: expected an integer"),
        ({"bos_token_id": 320}, "special token id: expected 0 to 319, got 320"),
    ],
)
def test_files_of_another_model_are_refused(foreign, config, message):
    file = foreign("optimum", **config)
    (file.parent / "generation_config.json").unlink()
    with pytest.raises(SourceError, match=message):
        read_facts(file.parent, read_decoder(file))


def test_without_either_file_it_is_said_which_to_copy(foreign):
    file = foreign("genai")
    (file.parent / "genai_config.json").unlink()
    with pytest.raises(SourceError, match=r"expected config\.json or genai_config\.json beside it, found neither"):
        read_facts(file.parent, read_decoder(file))
