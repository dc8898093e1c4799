"""A second text is offered where the export saw the model take one, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from tests import tiny
from tests.export.helpers import config_for, refused
from tests.serving.helpers import CPU, ask
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.inputs import InputMaker, input_names
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.pair_trial import try_pairs
from torchscript_bundle.export.proof import Proof, prove
from torchscript_bundle.export.save_modes import SAVE_MODES
from torchscript_bundle.export.save_modes.save_mode import Job
from torchscript_bundle.jit.verify import Case
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.service import Service

PAIR = {"text": "It works.", "text_pair": "a film"}
THREE = ("input_ids", "attention_mask", "token_type_ids")
LABELS = {"zero_shot_classification": ("contradiction", "entailment"), "reranking": ("SCORE",)}


def untyped() -> PreTrainedTokenizerFast:
    """BERT's without token types among its inputs, as RoBERTas trained with it are saved."""
    tokenizer = tiny.wordpiece_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def trials(bundle: Bundle) -> list[dict[str, Any]]:
    """The shapes of pairs that were compared."""
    return [case for case in bundle.verification["cases"] if case["shape"]["paired"]]


@pytest.mark.parametrize("save_mode", ["torchscript", "pretrained"])
def test_a_model_of_one_token_type_takes_no_pairs(tmp_path: Path, save_mode: str) -> None:
    model = tiny.save_checkpoint(tmp_path / "model", tiny.roberta, tiny.wordpiece_tokenizer())
    config = config_for(tmp_path, model, save_mode=save_mode)
    bundle = export(config, tmp_path / "artifact")
    assert bundle.pairs is False
    assert "no embedding for token type 1" in bundle.verification["pairs_refused"]
    assert not trials(bundle)
    service = Service(tmp_path / "artifact", CPU)
    assert ask(service, "It works.")[0] == 200
    status, answer = ask(service, PAIR)
    assert (status, "one text at a time" in answer["error"]) == (422, True)
    [whole] = [schema for schema in _items(service) if "text_pair" in schema["properties"]]
    assert whole["properties"]["text_pair"]["not"] == {}


def _items(service: Service) -> list[dict[str, Any]]:
    item = service.describe()["openapi"]["components"]["schemas"]["Item"]
    return [each for each in item.get("anyOf", [item]) if "properties" in each]


@pytest.mark.parametrize(
    ("make_model", "tokenizer"),
    [
        (tiny.bert, tiny.wordpiece_tokenizer),
        (tiny.roberta, untyped),
        pytest.param(tiny.roberta, tiny.byte_level_tokenizer, marks=pytest.mark.slow),
        pytest.param(tiny.distilbert, tiny.wordpiece_tokenizer, marks=pytest.mark.slow),
        pytest.param(tiny.fixed_length, tiny.wordpiece_tokenizer, marks=pytest.mark.slow),
        (tiny.fixed_shape, tiny.wordpiece_tokenizer),
        pytest.param(tiny.bart, tiny.byte_level_tokenizer, marks=pytest.mark.slow),
        pytest.param(tiny.convbert, tiny.wordpiece_tokenizer, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_where_pairs_are_right_they_are_proven_and_answered(
    tmp_path: Path,
    make_model: Callable[..., Any],
    tokenizer: Callable[[], PreTrainedTokenizerFast],
) -> None:
    folder = tiny.save_checkpoint(tmp_path / "model", make_model, tokenizer())
    bundle = export(config_for(tmp_path, folder), tmp_path / "artifact")
    assert (bundle.pairs, bundle.verification["pairs_refused"]) == (True, "")
    assert {case["verdict"] for case in trials(bundle)} <= {"exact", "close"}
    assert max(case["shape"]["length"] for case in trials(bundle)) == bundle.max_length
    status, answer = ask(Service(tmp_path / "artifact", CPU), {**PAIR, "top_k": 1})
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    row = AutoTokenizer.from_pretrained(folder)(*PAIR.values(), return_tensors="pt")
    taken = {name: row[name] for name in bundle.inputs}
    best = model(**taken).logits[0].softmax(-1).max().item()
    assert (status, answer[0]["score"]) == (200, pytest.approx(best, abs=1e-5))


@pytest.mark.parametrize("mode", ["question_answering", "zero_shot_classification", "reranking"])
def test_a_mode_that_needs_pairs_is_refused_by_its_reason(tmp_path: Path, mode: str) -> None:
    make_model = tiny.roberta_qa if mode == "question_answering" else tiny.roberta
    labels = LABELS.get(mode, ("NEGATIVE", "POSITIVE"))
    tokenizer = tiny.wordpiece_tokenizer()
    model = tiny.save_checkpoint(tmp_path / "model", make_model, tokenizer, labels)
    with refused("no embedding for token type 1", "model_input_names") as refusal:
        export(config_for(tmp_path, model, mode=mode), tmp_path / "artifact")
    assert "max_length" not in refusal.sentence


def test_what_the_refusal_says_to_do_helps(tmp_path: Path) -> None:
    model = tiny.save_checkpoint(tmp_path / "model", tiny.roberta_qa, untyped())
    config = config_for(tmp_path, model, mode="question_answering")
    assert export(config, tmp_path / "artifact").pairs


class NegatesSecond(torch.nn.Module):
    """Its Python asks whether there is a second text: a trace keeps the answer of its example."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(tiny.VOCABULARY, 3)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor
    ) -> tuple[torch.Tensor]:
        pooled = (self.embedding(ids) * mask[:, :, None]).sum(1)
        return (-pooled if bool(types.any()) else pooled,)


def test_a_trace_that_is_wrong_for_pairs_alone_is_given_none() -> None:
    eager = NegatesSecond().eval()
    tokenizer = tiny.wordpiece_tokenizer()
    single, paired = (InputMaker(tokenizer, THREE, CPU, pairs=pairs) for pairs in (False, True))
    proof = prove(eager, lambda module: module, single, (24,))
    seen: list[Case] = []

    def objection(cases: Any) -> str | None:
        seen.extend(cases)
        broken = proof.compare(proof.module, "").broken
        assert broken is None  # single texts hold
        return str(Proof.compare(_over(proof, cases), proof.module, "").broken)

    found = try_pairs(proof, eager, paired, (24,), objection)
    assert (found.pairs, found.cases) == (False, proof.cases)
    assert "rows of two texts: wrong" in found.pairs_refused
    assert seen and all(case.shape.paired for case in seen)


def _over(proof: Proof, cases: list[Case]) -> Proof:
    return Proof(proof.module, proof.claim, proof.lengths, list(cases), proof.report, 0.0)


def test_gradients_of_pairs_are_compared_where_answers_are_explained(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    config = config_for(tmp_path, checkpoint("bert"), captum_explanation=True)
    source = load_source(config)
    inputs = input_names(source.model, source.tokenizer)
    job = Job(config, source, MODES[config.mode], inputs, {})
    found = SAVE_MODES[config.save_mode].prove(job).gradients
    assert {case.shape.paired for case in found} == {False, True}
