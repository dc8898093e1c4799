"""Architectures that cut or pool texts in Python answer as they do eagerly, at every shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from architectures.tiny_models import NOISE, tiny_config, tiny_model
from tests.export.helpers import refused
from tests.jit.helpers import saved
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.scripted import deepseek_v4, funnel, reformer
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import Shape, verify

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
REFORMER, MASKED = "ReformerModelWithLMHead", "ReformerForMaskedLM"
FUNNEL, DEEPSEEK = "FunnelForTokenClassification", "DeepseekV4ForCausalLM"
#: Class and what its tiny config has otherwise.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in (MASKED, REFORMER, FUNNEL, DEEPSEEK)),
    *(
        (name, options)
        for name in (MASKED, REFORMER)
        for options in (
            {"num_hashes": 3},
            {"num_buckets": [2, 4]},
            {"local_attn_chunk_length": 16},
            {"lsh_attn_chunk_length": 16, "num_hashes": 2},
            {"attn_layers": ["lsh", "lsh"], "num_hashes": 2},
            {"axial_pos_embds": False},
            {"local_attn_chunk_length": 128, "lsh_attn_chunk_length": 128},
        )
    ),
    (MASKED, {"lsh_num_chunks_after": 1, "local_num_chunks_after": 1}),
    (FUNNEL, {"truncate_seq": False}),
    (FUNNEL, {"separate_cls": False}),
    (FUNNEL, {"pool_q_only": False}),
    (FUNNEL, {"pooling_type": "max"}),
    (FUNNEL, {"block_sizes": [1, 1, 1, 1], "block_repeats": [1, 1, 1, 1]}),
    (FUNNEL, {"attention_type": "factorized", "separate_cls": False}),
    (DEEPSEEK, {"index_topk": 2}),
    (DEEPSEEK, {"index_topk": 100}),
]

#: Those of Funnel and DeepSeek take seconds each: beyond their plain config, only with --slow.
each_case = pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(
            name, options, marks=pytest.mark.slow if options and name in (FUNNEL, DEEPSEEK) else ()
        )
        for name, options in CASES
    ],
)


def make(name: str, options: dict[str, Any]) -> Any:
    """A tiny random model, with tokens that differ."""
    model_class = getattr(transformers, name)
    config = tiny_config(model_class.config_class.model_type)
    for key, value in {"is_decoder": name == REFORMER, **options}.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * NOISE)
    return model


def wrapped(model: Any) -> torch.nn.Module:
    inputs = INPUTS if model.config.model_type == "funnel" else INPUTS[:2]
    return wrap_model(model, inputs).eval()


def traced(model: Any, length: int) -> torch.jit.ScriptModule:
    """A trace of two rows."""
    with record_tracer_warnings():
        return trace(wrapped(traceable(model)), rows(model, 2, length, "right"), in_place=False)


def rows(model: Any, batch: int, length: int, padded: str = "") -> Tensors:
    """Ids, mask and types, with padding on the side `padded`, from about half down to some."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    ids = torch.randint(5, 300, (batch, length), generator=generator)
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    types[:, length // 2 :] = 1
    types[:, 0] = 2
    for row in range(batch if padded else 0):
        gap = length * (batch - row) // (2 * batch)
        mask[row, slice(gap) if padded == "left" else slice(length - gap, length)] = 0
    inputs = (ids * mask, mask, types)
    return inputs if model.config.model_type == "funnel" else inputs[:2]


def takes(model: Any, length: int) -> bool:
    """Whether the model itself can run so few tokens."""
    try:
        with torch.no_grad():
            wrapped(model)(*rows(model, 1, length))
    except (RuntimeError, IndexError):
        return False
    return True


def grid(model: Any) -> Iterator[tuple[Shape, Tensors]]:
    for length in (1, 2, 3, 5, 7, 8, 9, 16, 17, 33, 40, 48, 64, 77):
        if takes(model, length):
            for batch in (1, 3):
                for padded in ("", "left", "right"):
                    yield Shape(batch, length, bool(padded)), rows(model, batch, length, padded)


@each_case
@pytest.mark.parametrize("length", [33, pytest.param(48, marks=pytest.mark.slow)])
def test_answers_are_the_models_at_every_shape(
    name: str, options: dict[str, Any], length: int, tmp_path: Path
) -> None:
    model = make(name, options)
    loaded = saved(traced(model, length), tmp_path)
    report = verify(wrapped(model), loaded, grid(model))
    assert report.holds, report.in_words()


@each_case
def test_the_original_stays_as_it_was(name: str, options: dict[str, Any]) -> None:
    model = make(name, options)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    attributes = {key: set(vars(module)) for key, module in model.named_modules()}
    expected = wrapped(make(name, options))(*rows(model, 2, 19))
    traced(model, 48)
    assert {key: set(vars(module)) for key, module in model.named_modules()} == attributes
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert torch.equal(wrapped(model)(*rows(model, 2, 19))[0], expected[0])


@pytest.mark.parametrize("adapt", [deepseek_v4.adapt, funnel.adapt, reformer.adapt])
def test_a_model_of_another_kind_is_refused(adapt: Any) -> None:
    with pytest.raises(LookupError, match="this version of transformers"):
        adapt(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("blocks", [3, 4])
def test_a_funnel_fails_at_the_lengths_at_which_the_model_fails(blocks: int) -> None:
    model = make(FUNNEL, {"block_sizes": [1] * blocks, "block_repeats": [1] * blocks})
    module = traced(model, 48)
    failing = [length for length in range(1, 33) if not takes(model, length)]
    assert failing == list(range(1, 2 ** (blocks - 1) + 1))
    for length in failing:
        with pytest.raises((RuntimeError, torch.jit.Error)):
            module(*rows(model, 1, length))


@pytest.mark.parametrize("name", ["hash_seed", "num_buckets"])
def test_a_reformer_that_hashes_by_chance_is_refused(name: str) -> None:
    model = make(MASKED, {name: None})
    with refused("hash_seed", "num_buckets", "config.json"):
        traceable(model)


def test_a_reformer_without_hashes_needs_no_seed() -> None:
    options = {"attn_layers": ["local", "local"], "hash_seed": None, "num_buckets": None}
    model = make(MASKED, options)
    assert verify(wrapped(model), traced(model, 48), grid(model)).holds


def test_drawing_a_reformer_s_hashes_leaves_the_random_numbers_alone() -> None:
    model = tiny_model("reformer", "AutoModelForMaskedLM")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    traceable(model)
    assert torch.equal(torch.rand(3), expected)
