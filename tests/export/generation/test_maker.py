"""What is made, what is written down of it, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from architectures.tiny_models import tiny_config, tiny_model
from tests.export.generation.helpers import proof, texts, writer
from tests.jit.helpers import saved
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.generation import compare_all, make_generator, read_facts
from torchscript_bundle.jit import accept_deprecation
from torchscript_bundle.jit.tracing import foreign_operators

both = pytest.mark.parametrize(("architecture", "seq2seq"), [("gpt2", False), ("t5", True)])
METHODS = ["prefill", "step", "select_rows", "merge", "rows_left", "seen_tokens", "sample"]


@both
def test_proof_says_what_was_tried(architecture: str, seq2seq: bool) -> None:
    made = proof(architecture, seq2seq=seq2seq)
    words = made.as_dict()
    json.dumps(words)
    assert made.in_words().startswith("any batch, texts of up to 96 tokens")
    assert 0 < made.report.worst < 1e-5
    cases = [each for each in words["cases"] if each["trial"] == "texts that are continued"]
    assert any(case["shape"]["spelled"] for case in cases)
    # All that a request may hold.
    assert max(case["shape"]["length"] for case in cases) == (80 if seq2seq else 95)
    assert len({case["trial"] for case in words["cases"]}) == len(made.trials) == 3


@both
def test_file_passes_the_same_trials(tmp_path: Path, architecture: str, seq2seq: bool) -> None:
    made = proof(architecture, seq2seq=seq2seq)
    loaded = saved(made.module, tmp_path)
    assert foreign_operators(loaded) == []
    assert compare_all(loaded, made.trials).holds
    size = sum(tensor.numel() * 4 for tensor in loaded.state_dict().values())
    assert (tmp_path / "module.pt").stat().st_size < size + 400_000  # the weights are there once


@both
def test_frozen_file_passes_the_same_trials(
    tmp_path: Path, architecture: str, seq2seq: bool
) -> None:
    made = proof(architecture, seq2seq=seq2seq)
    loaded = saved(made.module, tmp_path)
    with accept_deprecation():
        frozen = torch.jit.freeze(loaded, preserved_attrs=[*METHODS, "generate"])
    assert compare_all(frozen, made.trials).holds
    for method in (frozen.prefill, frozen.step):  # where a worker replaces them
        assert "aten::linear" in str(method.graph) or "aten::addmm" in str(method.graph)
        assert "prim::CallMethod" not in str(method.graph)


@both
def test_nothing_is_kept_for_a_backward_pass(
    tmp_path: Path, architecture: str, seq2seq: bool
) -> None:
    model = writer(architecture, seq2seq=seq2seq)
    made = make_generator(model, read_facts(model, 48, 40))
    loaded = saved(made.module, tmp_path)
    assert all(parameter.requires_grad for parameter in model.parameters())
    logits, cache = loaded.prefill(*texts(made, 2, 5))
    logits, cache = loaded.step(logits.argmax(1), cache)
    assert not any(tensor.requires_grad for tensor in (logits, *cache))
    shared = {tensor.data_ptr() for tensor in model.parameters()}
    assert {tensor.data_ptr() for tensor in made.module.parameters()} <= shared


def test_file_needs_torch_alone(tmp_path: Path) -> None:
    made = proof("mistral")
    ids, mask = texts(made, 2, 9)
    expected = made.module.generate(ids, mask, 12).tolist()
    saved(made.module, tmp_path)
    code = (
        "import sys, torch; model = torch.jit.load('module.pt'); "
        f"print(model.generate(torch.tensor({ids.tolist()}), torch.tensor({mask.tolist()}), 12)"
        ".tolist()); assert not {'transformers', 'torchscript_bundle'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("mamba", "keeps LinearAttentionLayer from token to token"),
        ("rwkv", "cannot be run with a cache|keeps no keys and values"),
    ],
)
def test_models_without_keys_and_values_are_refused(architecture: str, message: str) -> None:
    model = tiny_model(architecture, "AutoModelForCausalLM")
    with pytest.raises(ExportError, match=message):
        make_generator(model, read_facts(model, 64))


@pytest.mark.slow
def test_layers_that_read_the_cache_of_others_have_none() -> None:
    config = tiny_config("gemma3n_text")
    config.num_hidden_layers, config.num_kv_shared_layers = 4, 2
    config.layer_types = ["sliding_attention", "full_attention"] * 2
    config.intermediate_size = [64] * 4
    config.activation_sparsity_pattern = [0.0] * 4
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert make_generator(model, read_facts(model, 64)).module.growing == 4


class _FixedBatch(GPT2LMHeadModel):
    """Asks in Python how many rows there are: a trace keeps those of its example."""

    def forward(self, input_ids: Any = None, **named: Any) -> Any:
        output = super().forward(input_ids=input_ids, **named)
        rows = int(input_ids.shape[0])
        output.logits = output.logits * (torch.arange(rows) < 2)[:, None, None]
        return output


class _FixedLength(GPT2LMHeadModel):
    """Does another thing with longer texts: a trace does what its example needs."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **named: Any) -> Any:
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask, **named)
        if attention_mask is not None and attention_mask.shape[1] > 40:
            output.logits = output.logits.flip(-1)
        return output


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (_FixedBatch, "texts that are continued, at batch (1|5), length 1"),
        (_FixedLength, "texts that are continued, at batch 2, length 90, padded rows: wrong"),
    ],
)
def test_model_whose_trace_differs_is_refused_with_the_shape(kind: Any, message: str) -> None:
    torch.manual_seed(0)
    model = kind(tiny_config("gpt2")).eval()
    with pytest.raises(ExportError, match=message):
        make_generator(model, read_facts(model, 96))


def test_max_length_beyond_the_positions_is_refused() -> None:
    model = writer("gpt2")
    with pytest.raises(ExportError, match="own generate fails at batch 2, length 194"):
        make_generator(model, read_facts(model, 200))


def test_facts_are_read_from_the_generation_config() -> None:
    model = writer("bart", seq2seq=True)
    config = model.generation_config
    config.eos_token_id, config.forced_bos_token_id, config.forced_eos_token_id = [3, 9], 2, 3
    config.num_beams, config.no_repeat_ngram_size, config.top_p = 4, 3, 0.8
    facts = read_facts(model, 96, 80)
    assert facts.eos_ids == (3, 9)
    assert (facts.start_id, facts.first_id, facts.last_id, facts.pad_id) == (2, 2, 3, 0)
    assert facts.ignored == ("no_repeat_ngram_size", "num_beams")
    assert facts.defaults["top_p"] == 0.8
    assert facts.defaults["top_k"] == 0


def test_tokens_that_a_model_forces_are_those_of_transformers() -> None:
    model = writer("bart", seq2seq=True)
    model.generation_config.forced_bos_token_id = 17
    model.generation_config.forced_eos_token_id = 3
    made = make_generator(model, read_facts(model, 24, 20))
    ids, mask = texts(made, 3, 8)
    expected = model.generate(ids, attention_mask=mask, max_new_tokens=9, do_sample=False)[:, 1:]
    found = made.module.generate(ids, mask, 9)
    assert torch.equal(found, expected)
    assert found[:, 0].tolist() == [17] * 3


def test_encoder_decoder_that_says_no_start_is_refused() -> None:
    model = writer("t5", seq2seq=True)
    model.generation_config.decoder_start_token_id = None
    model.generation_config.bos_token_id = None
    with pytest.raises(ExportError, match="set decoder_start_token_id"):
        read_facts(model, 96, 80)
