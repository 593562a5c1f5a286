"""A model's numbers survive the manifest, to the last bit."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from bise_export.architecture import architecture_of, spec_of
from bise_proto.v1 import bundle_pb2
from golden import families, tiny

SPECS = tiny.SPECS | families.SPECS
# What manifests of bise 0.1 did not have.
ADDED = {field.name for field in bundle_pb2.Architecture.DESCRIPTOR.fields if field.number > 14}


def bundle_of(spec):
    tokenizer = bundle_pb2.Tokenizer(bos_token_id=spec.bos_token_id, eos_token_ids=spec.eos_token_ids)
    return bundle_pb2.Bundle(architecture=architecture_of(spec), tokenizer=tokenizer)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("context", [8, 256])
def test_there_and_back_through_json(name, context):
    spec = SPECS[name].for_context(context)
    text = json_format.MessageToJson(bundle_of(spec), preserving_proto_field_name=True)

    assert spec_of(json_format.Parse(text, bundle_pb2.Bundle())) == spec


@pytest.mark.parametrize("name", tiny.SPECS)
def test_a_manifest_from_before_there_were_quirks_is_of_a_plain_decoder(name):
    bundle = bundle_of(tiny.SPECS[name])
    for field in ADDED:
        bundle.architecture.ClearField(field)

    assert spec_of(bundle) == tiny.SPECS[name]
