"""The TorchServe example's own config, requests and answer form, by a real TorchServe."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests import tiny
from tests.export.config.helpers import YAML, load
from tests.integration.conftest import Site
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.exporter import export
from torchscript_bundle.server import Answer

TAGS = "[O, B-MISC, I-MISC, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC]"
TEXT = "It works as described."
#: The sample for explanations of tokens: a Python dictionary, whose target is a tuple.
SAMPLE = f'{{"text":"{TEXT}", "target":(1,2)}} \n'.encode()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, start_site: Callable[..., Site]) -> Site:
    folder = tmp_path_factory.mktemp("example")
    labels = tuple(f"LABEL_{index}" for index in range(9))
    model = tiny.save_checkpoint(
        folder / "model", tiny.bert_ner, tiny.spelling_wordpiece_tokenizer(), labels
    )
    samples = folder / "Token_classification_artifacts"
    samples.mkdir()
    (samples / "index_to_name.json").write_text(json.dumps({"label_list": TAGS}))
    (samples / "sample_text.txt").write_text(f"{TEXT} \n")
    (samples / "sample_text_captum_input.txt").write_bytes(SAMPLE)
    handler = {
        **YAML["handler"],
        "model_name": str(model),
        "mode": "token_classification",
        "num_labels": 9,
        "answer_form": "torchserve_example",
    }
    config = load(folder, {**YAML, "handler": handler}, "model-config.yaml")
    export(config, folder / "Transformer_model")
    archive = pack(folder / "Transformer_model", folder, config)
    return start_site(folder, archive.rename(folder / "under_test.mar"))


def send(site: Site, verb: str, body: bytes, content_type: str = "") -> Answer:
    url = f"http://127.0.0.1:{site.port('inference')}/{verb}/under_test"
    return site.server.request(
        "POST", url, "inference", body=body, headers={"Content-Type": content_type}
    )


def test_its_sample_is_answered_and_explained(example: Site) -> None:
    plain = send(example, "predictions", TEXT.encode(), "text/plain")
    pairs = plain.json()
    assert (plain.status, plain.content_type) == (200, "")
    assert plain.body == json.dumps(pairs, indent=2).encode()
    assert [token for token, _ in pairs[:3]] == ["[CLS]", "i", "##t"]
    assert len(pairs) == 150 and {label for _, label in pairs} <= {*TAGS[1:-1].split(", ")}
    for content_type in ("", "application/octet-stream"):  # curl -T sends none
        answer = send(example, "predictions", SAMPLE, content_type)
        assert (answer.status, answer.body) == (200, plain.body)
        explained = send(example, "explanations", SAMPLE, content_type)
        assert (explained.status, explained.content_type) == (200, ""), explained.body
        found = explained.json()
        assert list(found) == ["words", "importances", "delta"]
        assert found["words"] == [token for token, _ in pairs if token != "[PAD]"]
        assert len(found["importances"]) == len(found["words"])


def test_its_instances_are_answered_and_explained_in_our_form(example: Site) -> None:
    body = json.dumps({"instances": [{"data": TEXT, "target": [1, 2]}]}).encode()
    answer = send(example, "predictions", body, "application/json")
    assert answer.status == 200, answer.body
    assert all("score" in entity for entity in answer.json()["predictions"][0])
    explained = send(example, "explanations", body, "application/json").json()
    [found] = explained["predictions"][0]["explanations"]
    assert (found["target"], found["tokens"][0]["token"]) == ("I-MISC", "I")
    assert found["at"] == {"start": 0, "end": 1}
