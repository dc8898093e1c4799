"""What is exported for explanations: three methods of one file, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.export.helpers import config_for, refused
from torchscript_bundle.export.explanation import embedded
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.gradients import compare_gradients, gradients
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.verify import Case, Shape
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_one_file_has_three_methods_that_share_weights(
    artifact: Callable[[str], Path], explained: Callable[[str], Path], name: str
) -> None:
    folder = explained(name)
    module = tracing.load(folder / MODULE_FILE, CPU)
    ids, mask = torch.tensor([[5, 6, 7, 8]] * 3), torch.ones(3, 4, dtype=torch.int64)
    bundle = Bundle.load(folder)
    inputs = (ids, mask, torch.zeros_like(ids))[: len(bundle.inputs)]
    assert bundle.explanations
    embeddings = module.embed(ids)
    assert embeddings.shape[:2] == (3, 4) and embeddings.dtype == torch.float32
    assert torch.equal(module.forward_embeddings(embeddings, *inputs)[0], module(*inputs)[0])
    plain = tracing.load(artifact(name) / MODULE_FILE, CPU)
    weights = {tensor.data_ptr() for tensor in module.parameters()}
    assert len(weights) == len({tensor.data_ptr() for tensor in plain.parameters()})
    assert not Bundle.load(artifact(name)).explanations


def test_the_proof_says_how_far_gradients_were_off(explained: Callable[[str], Path]) -> None:
    assert 0 < Bundle.load(explained("bert")).verification["gradient_difference"] < 1e-4


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bart", "embeddings are read 0 times"),
        ("fixed_length", "explanations need any length"),
        ("bert_embedding", "answers of feature_extraction have no score to explain"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, name: str, says: str
) -> None:
    mode = {"bert_embedding": "feature_extraction"}.get(name, "sequence_classification")
    with refused(says, "captum_explanation", "false"):
        config = config_for(tmp_path, checkpoint(name), mode=mode, captum_explanation=True)
        export(config, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_other_gradients_are_refused_though_the_answers_are_right(
    checkpoint: Callable[[str], Path],
) -> None:
    """As of a trace that lost a path from the embeddings to the answer."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint("roberta")).eval()
    eager = embedded(wrap_model(model, ("input_ids", "attention_mask")), 2)
    ids = torch.tensor([[0, 7, 8, 9, 2]])
    shape = Shape(1, 5, padded=False)
    cases = gradients(eager, [Case(shape, (ids, torch.ones_like(ids)), ())])
    assert compare_gradients(eager, cases).worst < 1e-6

    class Detached(torch.nn.Module):
        def forward_embeddings(
            self, embeddings: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            (logits,) = eager.forward_embeddings(embeddings, ids, mask)
            return (logits.detach() + 0 * embeddings.sum(),)

    with refused("the gradients are not the model's", str(shape)):
        compare_gradients(Detached(), cases)
