"""Masks that models add their own functions to follow the sizes of a trace."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from architectures.heads import HEADS
from architectures.tiny_models import tiny_model
from architectures.tokenizer import make_tokenizer
from torchscript_bundle.export.claims import Claim
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.masks import masks_by_broadcasting
from torchscript_bundle.export.proof import prove
from torchscript_bundle.export.wrappers import wrap_model

INPUTS = ("input_ids", "attention_mask")


@pytest.mark.parametrize(
    ("model_type", "head"),
    [
        ("gemma3", "sequence_classification"),
        ("t5gemma2", "sequence_classification"),
        ("t5gemma2", "token_classification"),
    ],
)
def test_sizes_are_those_of_the_text(model_type: str, head: str) -> None:
    model = tiny_model(model_type, HEADS[head].auto_class)
    make_inputs = InputMaker(make_tokenizer(framed=True), INPUTS, torch.device("cpu"))
    found = prove(model, partial(wrap_model, inputs=INPUTS), make_inputs, (16, 48))
    assert found.claim == Claim(dynamic_batch=True, dynamic_length=True)


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_masks_are_made_as_before(fails: bool) -> None:
    before = {name: ALL_MASK_ATTENTION_FUNCTIONS[name] for name in ALL_MASK_ATTENTION_FUNCTIONS}
    try:
        with masks_by_broadcasting():
            assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is not sdpa_mask
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert dict(ALL_MASK_ATTENTION_FUNCTIONS) == before


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_the_mask_is_the_same_without_vmap(name: str) -> None:
    padding = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], dtype=torch.bool)

    def near(batch: torch.Tensor, head: torch.Tensor, q: torch.Tensor, kv: torch.Tensor) -> object:
        return (q - kv).abs() <= 1

    def mask() -> torch.Tensor:
        make = ALL_MASK_ATTENTION_FUNCTIONS[name]
        return make(2, 5, 5, mask_function=near, attention_mask=padding, use_vmap=True)

    expected = mask()
    with masks_by_broadcasting():
        assert torch.equal(mask(), expected)
