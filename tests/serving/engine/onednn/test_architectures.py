"""Packed models answer as the saved module does, alone, together and padded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.cpu import needs_bfloat16
from tests.serving.engine.onednn.helpers import (
    Inputs,
    apart,
    assert_packed_equals,
    ids,
    load,
    packed_layers,
    reload_traced,
)
from tests.serving.engine.onednn.models import DYNAMIC, Make, albert, deberta, llama, load_model
from torchscript_bundle.export import splade
from torchscript_bundle.export.splade import wrap_splade
from torchscript_bundle.jit.tracing import record_tracer_warnings
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle
from torchscript_bundle.serving.engine.onednn import pack
from torchscript_bundle.serving.engine.onednn.rewrite import attention_products as attention

Artifact = Callable[[str], Path]

STATIC = ["fixed_length", "fixed_shape"]


@pytest.mark.parametrize("name", DYNAMIC)
def test_packed_is_equal_at_shapes_it_was_not_compared_on(artifact: Artifact, name: str) -> None:
    module, count = load(artifact(name) / MODULE_FILE), len(Bundle.load(artifact(name)).inputs)
    packed = pack(module, {"forward": [ids(1, 8, count), ids(3, 12, count)]})
    fresh = [ids(*shape, count) for shape in ((1, 9), (2, 40), (5, 33), (8, 64), (1, 64))]
    assert_packed_equals(packed, module, fresh)


@pytest.mark.parametrize("name", DYNAMIC)
def test_neighbours_and_padding_change_nothing_but_rounding(artifact: Artifact, name: str) -> None:
    module, count = load(artifact(name) / MODULE_FILE), len(Bundle.load(artifact(name)).inputs)
    packed = pack(module, {"forward": [ids(1, 8, count), ids(3, 12, count)]})
    assert packed.reason is None
    together = ids(6, 30, count)
    with torch.inference_mode():
        answers = packed(*together)
        for row in range(6):
            length = int(together[1][row].sum())
            alone = packed(*(each[row : row + 1, :length] for each in together))
            per_token = answers[0].shape[1] == 30
            beside = [each[row : row + 1, : length if per_token else None] for each in answers]
            assert apart(alone, beside) < 1e-5


def test_blocks_of_a_vocabulary_stay_blocks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Layers that read one input are joined; here that would make all logits at once again."""
    monkeypatch.setattr(splade, "BLOCK", 64)
    model = tiny.bert_mlm(initializer_range=0.5).eval()
    wrapped = wrap_splade(model, ("input_ids", "attention_mask"), "max", "relu", in_blocks=True)
    with record_tracer_warnings():
        module = reload_traced(wrapped, ids(2, 9), tmp_path)
    packed = pack(module, {"forward": [ids(1, 8), ids(3, 12)]}, counts=(2,))
    assert_packed_equals(packed, module, [ids(1, 9), ids(5, 33), ids(8, 64)])
    assert packed_layers(packed).count("relu") == 5
    with torch.inference_mode():
        one, other = packed.joined[2](*ids(2, 9), *ids(3, 20))
        assert max(apart(module(*ids(2, 9)), one), apart(module(*ids(3, 20)), other)) < 1e-5


def test_layers_of_masks_alone_are_packed(artifact: Artifact) -> None:
    """From one mask to many in a batch, and in merged batches."""
    module, mask_id = load(artifact("bert_mlm") / MODULE_FILE), 4

    def masked(batch: int, length: int, masks: int) -> Inputs:
        inputs = ids(batch, length, 3)
        inputs[0][:, 1 : 1 + masks] = mask_id
        return inputs

    packed = pack(module, {"forward": [masked(1, 8, 1), masked(3, 12, 2)]}, counts=(2,))
    fresh = [masked(1, 9, 1), masked(2, 40, 3), masked(5, 33, 1), masked(8, 64, 9)]
    assert_packed_equals(packed, module, fresh)
    with torch.inference_mode():
        expected = [module(*arguments) for arguments in fresh[:2]]
        found = packed.joined[2](*fresh[0], *fresh[1])
        assert [len(logits) for (logits,) in found] == [1, 6]
        assert max(map(apart, expected, found)) < 1e-5


@pytest.mark.parametrize("name", STATIC)
def test_every_trace_behind_a_dispatcher_is_packed(artifact: Artifact, name: str) -> None:
    module, bundle = load(artifact(name) / MODULE_FILE), Bundle.load(artifact(name))
    rows = [1, 3] if bundle.dynamic_batch else [1]
    shapes = [(batch, length) for batch in rows for length in bundle.traced_lengths]
    inputs = [ids(*shape, len(bundle.inputs)) for shape in shapes]
    assert_packed_equals(pack(module, {"forward": inputs}), module, inputs)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)]
)
@pytest.mark.parametrize("make", [albert, deberta, llama])
def test_other_architectures(make: Make, dtype: torch.dtype, tmp_path: Path) -> None:
    module = load_model(make, tmp_path)
    # A trace of DeBERTa keeps the shape that it was made at.
    shapes = [(2, 16)] if make is deberta else [(2, 16), (1, 9), (4, 24), (8, 5)]
    inputs = [ids(*shape) for shape in shapes]
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    assert_packed_equals(pack(module, {"forward": inputs[:2]}, dtype), module, inputs, tolerance)


@needs_bfloat16
@pytest.mark.parametrize("name", ["bert_embedding", "gpt2", "fixed_length"])
def test_bfloat16_is_close_and_gives_float32(artifact: Artifact, name: str) -> None:
    """Of one row, attention is the fused operator; of eight, matrix products."""
    module, bundle = load(artifact(name) / MODULE_FILE), Bundle.load(artifact(name))
    heads, length = 4, 64
    assert heads * length**2 < attention.FEWEST_SCORES <= 8 * heads * length**2
    inputs = [ids(batch, length, len(bundle.inputs)) for batch in (1, 8)]
    packed = pack(module, {"forward": inputs}, torch.bfloat16)
    assert_packed_equals(packed, module, inputs, 1e-1)
    assert {each.dtype for each in packed(*inputs[0])} == {torch.float32}
    with torch.inference_mode():
        assert apart(module(*inputs[0]), packed(*inputs[0])) > 1e-5
