"""Archives that old versions of transformers and the TorchServe example's steps have made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.adopt.helpers import OLD, rewrite
from tests.export.helpers import edit_json, listing, refused
from tests.serving.helpers import CPU, ask, post
from torchscript_bundle.export.adopt.adoption import adopt
from torchscript_bundle.export.adopt.traced_file import load_traced, read_code
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle
from torchscript_bundle.serving.service import Service

NAMES = sorted(path.stem for path in OLD.glob("*.mar"))
#: One of each mode and version of transformers; the others repeat.
FAST = {"bert_sequence", "distilbert_tokens", "electra_qa"}
TRACED = [
    pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
    for name in NAMES
    if "pretrained" not in name
]


def tokenizer_of(name: str) -> str | None:
    """Return the folder of an archive's tokenizer; None where the archive holds it."""
    return None if name == "roberta_sequence" else str(OLD / f"{name.split('_')[0]}_tokenizer")


def adopted(name: str, folder: Path, **settings: Any) -> tuple[Path, Bundle]:
    """Adopt and export one of the old archives; return the artifact."""
    config = adopt(OLD / f"{name}.mar", folder, tokenizer_of(name))
    edit_json(config, **settings)
    return folder / "artifact", export(load_config(config), folder / "artifact")


def outputs(service: Service, request: object) -> tuple[torch.Tensor, ...]:
    """Return the outputs for a request of one row."""
    [[outputs]] = service.compute([service.tokenize(post(request))])  # type: ignore[list-item]
    return outputs


def expected(name: str) -> list[tuple[object, int, list[torch.Tensor]]]:
    """Return requests, their tokens, and what the old handler computed for them."""
    found = json.loads((OLD / f"{name}.json").read_text())["answers"]
    return [
        (
            json.loads(each["text"].replace("'", '"')) if "qa" in name else each["text"],
            each["tokens"],
            [torch.tensor(row) for row in each["outputs"]],
        )
        for each in found
    ]


@pytest.mark.parametrize("name", TRACED)
def test_an_adopted_trace_answers_as_its_old_handler_did(name: str, tmp_path: Path) -> None:
    artifact, bundle = adopted(name, tmp_path / "adopted")
    assert (bundle.dynamic_batch, bundle.dynamic_length, bundle.max_length) == (True, True, 150)
    service = Service(artifact, CPU)
    for request, size, rows in expected(name):
        found = outputs(service, request)
        if "tokens" in name:
            assert found[0].shape[0] == size
            torch.testing.assert_close(found[0].argmax(-1), rows[0])
            continue
        for actual, row in zip(found, rows, strict=True):
            torch.testing.assert_close(actual, row, rtol=1e-4, atol=1e-4)


def test_the_old_file_is_served_as_it_is(tmp_path: Path) -> None:
    artifact, _ = adopted("bert_sequence", tmp_path / "adopted")
    given = (tmp_path / "adopted" / "model" / MODULE_FILE).read_bytes()
    assert hashlib.sha256((artifact / MODULE_FILE).read_bytes()).digest() == (
        hashlib.sha256(given).digest()
    )


def test_labels_name_and_length_come_along(tmp_path: Path) -> None:
    artifact, bundle = adopted("bert_sequence", tmp_path / "adopted")
    config = load_config(tmp_path / "adopted" / "setup_config.json")
    assert bundle.labels == ("Not Accepted", "Accepted")
    assert (config.served_name, config.max_length, config.batch_size) == ("bert_sequence", 150, 4)
    service = Service(artifact, CPU)
    text, _, [logits] = expected("bert_sequence")[0]
    score, best = logits.softmax(-1).max(-1)
    status, answer = ask(service, text)
    assert (status, answer["label"]) == (200, bundle.labels[best])
    assert answer["score"] == pytest.approx(score.item(), abs=1e-4)


def test_a_pretrained_archive_goes_through_the_ordinary_export(tmp_path: Path) -> None:
    artifact, bundle = adopted("distilbert_pretrained", tmp_path / "adopted")
    assert bundle.save_mode == "torchscript"
    service = Service(artifact, CPU)
    for request, _, [logits] in expected("distilbert_pretrained"):
        [actual] = outputs(service, request)
        torch.testing.assert_close(actual, logits, rtol=1e-4, atol=1e-4)


def test_pickled_weights_are_not_read_unasked(tmp_path: Path) -> None:
    with refused("no safetensors weights", '"use_safetensors": false'):
        adopted("bert_pretrained", tmp_path / "refused")
    _, bundle = adopted("bert_pretrained", tmp_path / "adopted", use_safetensors=False)
    assert bundle.labels == ("Not Accepted", "Accepted")


def test_a_trace_of_a_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    """The file of a CPU with the devices of a GPU written into its code and its tensors."""
    config = adopt(OLD / "bert_sequence.mar", tmp_path / "adopted", tokenizer_of("bert_sequence"))
    path = config.parent / "model" / MODULE_FILE
    of_gpu = rewrite(
        path,
        tmp_path / "gpu.pt",
        {
            ".py": (b'torch.device("cpu")', b'torch.device("cuda:0")'),
            "data.pkl": (b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"),
        },
    )
    assert b"cuda:0" in of_gpu.read_bytes(), "the trace must hold devices"
    inputs = (torch.randint(5, 100, (2, 30)), torch.ones(2, 30, dtype=torch.int64))
    for mine, theirs in zip(
        load_traced(path, read_code(path), CPU)(*inputs),
        load_traced(of_gpu, read_code(of_gpu), CPU)(*inputs),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


def test_a_lower_precision_and_another_length_are_settled_as_for_any_model(tmp_path: Path) -> None:
    config = adopt(OLD / "bert_sequence.mar", tmp_path / "adopted", tokenizer_of("bert_sequence"))
    edit_json(config, max_length=64)
    with refused("max_length is 64", "at 150 tokens", "set max_length to 150"):
        export(load_config(config), tmp_path / "artifact")


def test_an_adopted_folder_is_not_overwritten(tmp_path: Path) -> None:
    adopt(OLD / "bert_sequence.mar", tmp_path / "adopted", tokenizer_of("bert_sequence"))
    before = listing(tmp_path)
    with refused("adopted exists", "--folder"):
        adopt(OLD / "bert_sequence.mar", tmp_path / "adopted")
    assert listing(tmp_path) == before
