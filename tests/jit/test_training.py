"""What happens to who trains an exported model after all (docs/torchscript.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.jit.helpers import saved, trace
from torchscript_bundle.jit.arguments import KeptArguments, keep_arguments
from torchscript_bundle.jit.deprecation import accept_deprecation

IDS = torch.arange(40).reshape(2, 20) * 7 % tiny.VOCABULARY
INPUTS = (IDS, torch.ones_like(IDS))
EXAMPLE = (IDS[:1, :9], torch.ones_like(IDS[:1, :9]))
TIED = ("module.transformer.wte.weight", "module.lm_head.weight")


def make(model: Any) -> KeptArguments:
    return keep_arguments(model, ["input_ids", "attention_mask"], outputs=["logits"])


def train_step(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """One step of SGD; returns the gradients by name, tied names included."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(*INPUTS)[0].pow(2).mean().backward()
    optimizer.step()
    named = module.named_parameters(remove_duplicate=False)
    return {name: each.grad for name, each in named if each.grad is not None}


def saved_bytes(module: torch.nn.Module) -> int:
    """What autograd keeps of a forward pass."""
    sizes: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(*INPUTS)
    return sum(sizes)


def test_gradients_are_right_and_the_tie_holds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    eager = make(tiny.gpt2_lm()).eval()
    loaded = saved(trace(eager, *EXAMPLE), tmp_path)
    before = loaded.state_dict()[TIED[0]].clone()
    wanted, got = train_step(eager), train_step(loaded)
    assert wanted.keys() == got.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, msg=name)
    assert torch.equal(got[TIED[0]], got[TIED[1]])
    state = loaded.state_dict()
    assert state[TIED[0]].data_ptr() == state[TIED[1]].data_ptr()
    assert not torch.equal(state[TIED[0]], before)
    torch.testing.assert_close(state[TIED[0]], eager.state_dict()[TIED[0]])
    torch.testing.assert_close(loaded(*INPUTS)[0], eager(*INPUTS)[0])


def test_parameters_have_each_tied_weight_once(tmp_path: Path) -> None:
    loaded = saved(trace(make(tiny.gpt2_lm()).eval(), *EXAMPLE), tmp_path)
    names = [name for name, _ in loaded.named_parameters()]
    assert [name for name in TIED if name in names] == [TIED[0]]


@pytest.mark.parametrize("training", [False, True])
def test_dropout_stays_as_it_was_traced(tmp_path: Path, training: bool) -> None:
    eager = make(tiny.gpt2_lm()).train(training)
    loaded = saved(trace(eager, *EXAMPLE), tmp_path)
    for mode in (True, False):
        loaded.train(mode)
        assert loaded.training == mode
        assert torch.equal(loaded(*INPUTS)[0], loaded(*INPUTS)[0]) != training


def test_gradient_checkpointing_is_gone(tmp_path: Path) -> None:
    eager = make(tiny.gpt2_lm(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)).train()
    plain = saved_bytes(eager)
    eager.module.gradient_checkpointing_enable()
    loaded = saved(trace(eager, *EXAMPLE), tmp_path)
    assert saved_bytes(eager) < plain / 2
    assert saved_bytes(loaded) >= plain


def test_weights_do_not_go_back_where_the_model_saves_not_all_its_buffers(tmp_path: Path) -> None:
    eager = make(tiny.bert_mlm()).eval()
    state = saved(trace(eager, *EXAMPLE), tmp_path).state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected key.*embeddings\.position_ids"):
        eager.load_state_dict(state)
    assert not eager.load_state_dict(state, strict=False).missing_keys


def test_parameters_that_were_fixed_stay_fixed(tmp_path: Path) -> None:
    eager = make(tiny.gpt2_lm()).eval()
    eager.get_parameter("module.transformer.wpe.weight").requires_grad_(False)
    loaded = saved(trace(eager, *EXAMPLE), tmp_path)
    fixed = [name for name, each in loaded.named_parameters() if not each.requires_grad]
    assert fixed == ["module.transformer.wpe.weight"]


def test_frozen_module_has_nothing_to_train() -> None:
    traced = trace(make(tiny.gpt2_lm()).eval(), *EXAMPLE)
    with accept_deprecation():
        frozen = torch.jit.freeze(traced)
    assert list(frozen.parameters()) == []
    assert not frozen(*INPUTS)[0].requires_grad
