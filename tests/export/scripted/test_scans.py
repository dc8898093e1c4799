"""Each scan gives what the function of transformers gives, states that it hands on included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.recurrent_gemma import modeling_recurrent_gemma
from transformers.models.rwkv import modeling_rwkv
from transformers.models.xlstm import modeling_xlstm

from architectures.tiny_models import tiny_config, tiny_model
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.scripted import chunk_scan, rglru, rwkv, selective_scan, xlstm
from torchscript_bundle.jit.verify import flatten

BATCH = 2
each_length = pytest.mark.parametrize("length", [1, 5, 8, 21])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def assert_same(ours: Any, theirs: Any, tolerance: float = 0.0) -> None:
    pairs = list(zip(flatten(ours), flatten(theirs), strict=True))
    assert pairs
    for our, their in pairs:
        torch.testing.assert_close(
            our, their, rtol=tolerance, atol=tolerance * float(their.abs().max())
        )


@each_length
@pytest.mark.parametrize("rest", [False, True])
def test_selective_scan(length: int, rest: bool) -> None:
    inner, state = 6, 4
    arguments: dict[str, Any] = {
        "hidden_states": draw(BATCH, inner, length),
        "dt": draw(BATCH, inner, length, seed=1).abs(),
        "A": -draw(inner, state).abs(),
        "B": draw(BATCH, state, length, seed=2),
        "C": draw(BATCH, state, length, seed=3),
    }
    if rest:
        arguments |= {"D": draw(inner), "z": draw(BATCH, inner, length, seed=4)}
        arguments |= {"delta_bias": draw(inner, seed=5), "delta_softplus": True}
        arguments |= {"return_last_state": True, "use_mambapy": False}
    theirs = modeling_mamba.mamba_selective_scan(**arguments)
    assert_same(selective_scan.selective_scan(**arguments), theirs)


@each_length
@pytest.mark.parametrize("final", [False, True])
def test_chunk_scan(length: int, final: bool) -> None:
    heads, size, state = 3, 4, 5
    arguments = (
        draw(BATCH, length, heads, size),
        draw(BATCH, length, heads).abs(),
        -draw(heads).abs(),
        draw(BATCH, length, 1, state),
        draw(BATCH, length, 1, state, seed=1),
        8,
    )
    scan = chunk_scan.always_cut(modeling_mamba2.mamba2_chunk_scan)
    theirs = modeling_mamba2.mamba2_chunk_scan(*arguments, return_final_states=final)
    assert_same(scan(*arguments, return_final_states=final), theirs)


@each_length
@pytest.mark.parametrize("continued", [False, True])
def test_rwkv_attention(length: int, continued: bool) -> None:
    hidden = 6
    arguments = (
        draw(hidden),
        draw(hidden, seed=1),
        draw(BATCH, length, hidden),
        draw(BATCH, length, hidden, seed=1),
    )
    state = [draw(BATCH, hidden, seed=seed).abs() for seed in range(3)] if continued else None
    theirs = modeling_rwkv.rwkv_linear_attention_cpu(*arguments, state=state)
    assert_same(rwkv.linear_attention(*arguments, state=state), theirs)
    theirs = modeling_rwkv.rwkv_linear_attention_cpu(*arguments, state=state, return_state=True)
    assert_same(rwkv.linear_attention(*arguments, state=state, return_state=True), theirs)


@pytest.mark.parametrize("called_first", [False, True])
def test_rwkv_weights_are_rescaled_once(called_first: bool) -> None:
    """transformers divides them in place at the first call, and the copies share them."""
    config = tiny_config("rwkv")
    config.rescale_every = 1
    torch.manual_seed(0)
    model = modeling_rwkv.RwkvForCausalLM(config).eval()
    reference = modeling_rwkv.RwkvForCausalLM(config).eval()
    reference.load_state_dict(model.state_dict())
    ids = torch.arange(12).view(2, 6) + 5
    expected = reference(ids, use_cache=False).logits
    if called_first:
        model(ids, use_cache=False)
    adapted = traceable(model)
    assert adapted.rwkv.layers_are_rescaled
    for each in (adapted, model, adapted, model):
        assert torch.equal(each(ids, use_cache=False).logits, expected)


@each_length
@pytest.mark.parametrize("continued", [False, True])
def test_rglru_scan(length: int, continued: bool) -> None:
    width = 6
    layer = modeling_recurrent_gemma.RecurrentGemmaRglru(tiny_config("recurrent_gemma"))
    arguments = (
        draw(BATCH, length, width),
        torch.sigmoid(draw(BATCH, length, width, seed=1)),
        (torch.arange(length) == 0).view(1, length, 1),
        draw(BATCH, width) if continued else None,
    )
    assert_same(rglru.rnn_scan(*arguments), layer._rnn_scan(*arguments))


@each_length
@pytest.mark.parametrize("continued", [False, True])
def test_xlstm_in_chunks(length: int, continued: bool) -> None:
    """The tokens left over are summed in another order."""
    heads, size, chunk = 2, 8, 8
    arguments = {
        "query": draw(BATCH, heads, length, size),
        "key": draw(BATCH, heads, length, size, seed=1),
        "value": draw(BATCH, heads, length, size + 1),
        "igate": draw(BATCH, heads, length) - 2,
        "fgate": draw(BATCH, heads, length, seed=1) + 3,
    }
    if continued:
        arguments["c_initial"] = draw(BATCH, heads, size, size + 1)
        arguments["n_initial"] = draw(BATCH, heads, size).abs()
        arguments["m_initial"] = draw(BATCH, heads, 1)
    backend = modeling_xlstm.xLSTMBackend(tiny_config("xlstm"))
    assert backend.config.chunk_size == chunk
    theirs = backend(**arguments)
    xlstm.adapt(backend)
    assert_same(backend(**arguments), theirs, 1e-5)


@pytest.mark.parametrize("adapt", [rglru.adapt, xlstm.adapt, selective_scan.adapt, rwkv.adapt])
def test_a_model_of_another_kind_is_refused(adapt: Any) -> None:
    with pytest.raises(LookupError, match="this version of transformers"):
        adapt(torch.nn.Linear(1, 1))


def test_rglru_state_of_an_earlier_call_is_not_kept() -> None:
    model = tiny_model("recurrent_gemma", "AutoModelForCausalLM")
    with torch.no_grad():
        model(torch.arange(6).view(1, 6), use_cache=True)
    states = [each.recurrent_states for each in model.modules() if hasattr(each, "_rnn_scan")]
    assert all(each is not None for each in states)
    adapted = traceable(model)
    kept = [each.recurrent_states for each in adapted.modules() if hasattr(each, "_rnn_scan")]
    assert kept == [None] * len(states)
