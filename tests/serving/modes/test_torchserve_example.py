"""Answers in the form of TorchServe's example, beside its documented steps on the eager model.

The steps are those of its handler (pytorch/serve v0.12.0): a text is padded to `max_length`, the
model is given ids and mask, and TorchServe sends a string as it is and all else as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from captum.attr import LayerIntegratedGradients
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.exports import Exports
from tests.serving.generation.helpers import Written, answer_all
from tests.serving.helpers import CPU, change, post, raw, read
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.describe.openapi import describe_folder
from torchscript_bundle.serving.service import Service

#: Largest difference of an importance (of a vector of unit norm), and of a delta.
TOLERANCE = 1e-4
#: Checkpoints of the modes that the example had and that answer in one pass.
NAMES = ("bert", "roberta", "bert_ner", "roberta_ner", "unigram_ner", "bert_qa", "roberta_qa")
#: Checkpoints whose explanations are tried -> the members of one, beside its words.
EXPLAINED = {
    "roberta": ("importances", "delta"),
    "bert_qa": ("importances_answer_start", "importances_answer_end", "delta_start", "delta_end"),
}
TEXTS = [
    "It works as described.",
    "x",
    "Café, naïve, Übergröße: don't!",
    "你好 \U0001f600 and <s> [SEP] [PAD] too",
    "  the battery , lasts\ttwo days\n",
    "שלום, it works",
    "It works as described; " * 30,
]
#: What transformers 4 removed spaces before, in its order.
CLEANED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")

Example = Callable[[str], Path]


class Original:
    """The handler's steps over a checkpoint as transformers loads it."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.bundle = Bundle.load(folder)
        auto_class = getattr(transformers, TASKS[self.bundle.mode].auto_class)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        self.model = auto_class.from_pretrained(checkpoint).eval()

    def sent(self, *texts: str) -> bytes:
        """The body of the answer to a text, or to a question and its context."""
        value = self._answer(*texts)
        return (value if isinstance(value, str) else json.dumps(value, indent=2)).encode()

    def _answer(self, *texts: str) -> Any:
        row = self.tokenizer(
            *texts,
            max_length=self.bundle.max_length,
            truncation=True,
            padding="max_length",
            return_tensors="pt",
        )
        ids = row["input_ids"]
        with torch.no_grad():
            outputs = self.model(ids, attention_mask=row["attention_mask"], return_dict=False)
        if self.bundle.mode == "sequence_classification":
            return self.bundle.labels[int(outputs[0][0].argmax())]
        if self.bundle.mode == "question_answering":
            start, end = (int(scores[0].argmax()) for scores in outputs[:2])
            tokens = self.tokenizer.convert_ids_to_tokens(ids[0].tolist()[start : end + 1])
            return self.tokenizer.convert_tokens_to_string(tokens)
        spelled = self.tokenizer.decode(ids[0], clean_up_tokenization_spaces=False)
        for each in CLEANED:
            spelled = spelled.replace(each, each.strip())
        labels = [self.bundle.labels[at] for at in outputs[0][0].argmax(-1).tolist()]
        return [*zip(self.tokenizer.tokenize(spelled), labels, strict=False)]

    def attribute(self, target: Any, output: int, *texts: str) -> tuple[list[float], float]:
        """Importances of unit norm, and the convergence delta."""
        tokenizer, model = self.tokenizer, self.model
        cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        row = tokenizer(*texts, truncation=True, max_length=self.bundle.max_length)["input_ids"]
        ids = torch.tensor([row])
        baseline = torch.tensor([[at if at in (cls, sep) else pad for at in row]])
        layer = getattr(model, model.base_model_prefix).embeddings

        def run(inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = model(inputs, attention_mask=mask, return_dict=False)[output]
            return outputs

        found, delta = LayerIntegratedGradients(run, layer).attribute(
            inputs=ids,
            baselines=baseline,
            target=target,
            additional_forward_args=torch.ones_like(ids),
            return_convergence_delta=True,
        )
        summed = found.sum(dim=-1).squeeze(0)
        return (summed / torch.norm(summed)).tolist(), delta[0].item()


@pytest.fixture(scope="module")
def example(artifact: Example, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A name of `tests.conftest.CHECKPOINTS` -> its artifact in the example's answer form."""
    root = tmp_path_factory.mktemp("example")

    @cache
    def make(name: str) -> Path:
        options = {**Bundle.load(artifact(name)).mode_options, "example_cleans_up_spaces": True}
        facts = {"answer_form": "torchserve_example", "mode_options": options}
        return change(artifact(name), root / name, bundle=facts)

    return make


@pytest.fixture(scope="module")
def explaining(
    exports: Exports, checkpoint: Example, tmp_path_factory: pytest.TempPathFactory
) -> Example:
    """The same, exported so, with explanations; RoBERTa is saved to be run eagerly."""
    root = tmp_path_factory.mktemp("explaining")

    @cache
    def make(name: str) -> Path:
        facts = json.loads((checkpoint(name) / "setup_config.json").read_text())
        form = {
            "answer_form": "torchserve_example",
            "captum_explanation": True,
            "save_mode": "pretrained" if name == "roberta" else "torchscript",
        }
        path = root / f"{name}.json"
        path.write_text(json.dumps({**facts, **form, "model_name": str(checkpoint(name))}))
        return exports.write(load_config(path), checkpoint(name), root / name)

    return make


@pytest.fixture(scope="module")
def answering(example: Example) -> Callable[[str], Service]:
    return cache(lambda name: Service(example(name), CPU, "m"))


@pytest.fixture(scope="module")
def original(checkpoint: Example, artifact: Example) -> Callable[[str], Original]:
    return cache(lambda name: Original(checkpoint(name), artifact(name)))


def items(name: str) -> list[tuple[str, ...]]:
    """Texts, or questions with their contexts."""
    return [(f"{text[:9]}?", text) if name.endswith("qa") else (text,) for text in TEXTS]


def body(*texts: str, **more: object) -> HttpRequest:
    """A request without a content type, as the example's clients send it."""
    if len(texts) == 1 and not more:
        return raw(texts[0].encode())
    keys = ("question", "context") if len(texts) == 2 else ("text",)
    return raw(json.dumps({**dict(zip(keys, texts, strict=True)), **more}).encode())


def explain(service: Service, request: HttpRequest) -> HttpResponse:
    [response] = service.answer([replace(request, purpose="explain")])
    return response


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_the_example(
    answering: Callable[[str], Service], original: Callable[[str], Original], name: str
) -> None:
    sent = [body(*texts) for texts in items(name)]
    responses = answering(name).answer(sent)
    assert [each.status for each in responses] == [200] * len(TEXTS)
    assert [each.body for each in responses] == [original(name).sent(*each) for each in items(name)]
    assert {each.content_type for each in responses} == {""}
    assert len({each.body for each in responses}) > 1 or name in ("bert", "roberta")


@pytest.mark.parametrize(("name", "names"), EXPLAINED.items())
def test_explanations_are_those_of_the_example(
    explaining: Example, original: Callable[[str], Original], name: str, names: tuple[str, ...]
) -> None:
    """RoBERTa counts positions by padding, so that even special tokens differ in the baseline."""
    texts = items(name)[0]
    response = explain(Service(explaining(name), CPU), body(*texts, target=1))
    assert (response.status, response.content_type) == (200, ""), response.body
    found = json.loads(response.body)
    assert response.body == json.dumps(found, indent=2).encode()
    tokenizer = original(name).tokenizer
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(*texts)["input_ids"])
    assert found.pop("words") == [token.replace("Ġ", "") for token in tokens]
    assert tuple(found) == names
    outputs = len(names) // 2
    for output in range(outputs):
        importances, delta = original(name).attribute(1, output, *texts)
        assert found[names[output]] == pytest.approx(importances, abs=TOLERANCE)
        assert found[names[output + outputs]] == pytest.approx(delta, abs=TOLERANCE)
        assert max(map(abs, importances)) > 0.1
    assert name != "roberta" or abs(importances[-1]) > TOLERANCE


@pytest.mark.parametrize("name", ["bert", "bert_ner", "bert_qa"])
def test_other_protocols_and_errors_are_ours(
    answering: Callable[[str], Service],
    service: Callable[[str], Service],
    name: str,
) -> None:
    item = {"question": "a?", "context": "It works."} if name == "bert_qa" else {"text": "It works"}
    tensors = [
        {"name": key, "shape": [1], "datatype": "BYTES", "data": [text]}
        for key, text in item.items()
    ]
    requests = [
        post({"instances": [item]}),
        post({"inputs": tensors}),
        replace(post({"inputs": item}), client="huggingface_hub"),
    ]
    for mine, theirs in zip(
        answering(name).answer(requests), service(name).answer(requests), strict=True
    ):
        (got, expected) = (read(mine), read(theirs))
        assert (mine.status, type(got)) == (200, type(expected))
        assert json.dumps(got).count('"score"') == json.dumps(expected).count('"score"') > 0 or (
            "outputs" in got
        )
    [wrong] = answering(name).answer([post({"secret": 1})])
    assert (wrong.status, list(read(wrong))) == (422, ["error"])


def test_lists_and_parameters(answering: Callable[[str], Service]) -> None:
    """A list, which the example had not, has its answers in one; nothing else can be asked for."""
    [first, second, both, plain, refused] = answering("bert").answer(
        [
            post("It works."),
            post("x"),
            post(["It works.", "x"]),
            post({"text": "x", "target": 1}, accept="text/plain"),
            post({"text": "x", "top_k": 2}),
        ]
    )
    answers = [first.body.decode(), second.body.decode()]
    assert both.body == json.dumps(answers, indent=2).encode()
    assert plain == second
    assert refused.status == 422
    assert 'known are "text", "inputs", "data", "parameters"' in read(refused)["error"]


def test_padding_is_counted_as_padding(answering: Callable[[str], Service]) -> None:
    used = answering("bert_ner")
    before = used.tokens
    used.answer([raw(b"x")])
    spent = used.tokens - before
    assert (spent.computed, spent.real) == (64, 3)


@pytest.mark.parametrize("name", ["bert", "bert_ner"])
def test_the_document_tells_of_predictions(
    answering: Callable[[str], Service], example: Example, name: str
) -> None:
    check_document(answering(name), example(name), name)


def test_the_document_tells_of_explanations(explaining: Example) -> None:
    service, folder = Service(explaining("bert_qa"), CPU, "m"), explaining("bert_qa")
    is_valid = check_document(service, folder, "bert_qa")
    explained = json.loads(explain(service, body(*items("bert_qa")[0])).body)
    assert is_valid("ExplainedExampleNativeReply", explained)
    assert not is_valid("ExplainedReply", explained)


def check_document(service: Service, folder: Path, name: str) -> Callable[[str, object], bool]:
    """Compares the document with answers; returns what tells whether a value is one of a schema."""
    api = describe_folder(folder, "m")
    OpenAPIV31SpecValidator(api).validate()
    assert "*/*" in api["components"]["responses"]["Answer"]["content"]

    def is_valid(schema: str, value: object) -> bool:
        reference = {"$ref": f"#/components/schemas/{schema}", **api}
        return bool(Draft202012Validator(reference).is_valid(value))

    texts = items(name)[0]
    item = dict(zip(("question", "context") if len(texts) == 2 else ("text",), texts, strict=True))
    [one, many] = service.answer([body(*texts), post([item, item])])
    text = one.body.decode()
    assert is_valid("ExampleNativeReply", json.loads(text) if name == "bert_ner" else text)
    assert is_valid("ExampleNativeReply", json.loads(many.body))
    for request in (item, {"inputs": [item]}, {"instances": [item]}):
        assert is_valid("Request", request)
    for request in ({**item, "top_k": 1}, {**item, "aggregation_strategy": "none"}):
        assert not is_valid("Request", request)
    return is_valid


def test_text_generation_is_the_text_with_what_follows(
    written: Callable[[str], Written], tmp_path: Path
) -> None:
    made = written("gpt2")
    options = Bundle.load(made.folder).mode_options
    folder = change(
        made.folder,
        tmp_path / "artifact",
        bundle={
            "answer_form": "torchserve_example",
            "mode_options": {**options, "example_cleans_up_spaces": False},
        },
    )
    service = made.service(folder)
    text = "We waited an hour, é\n"
    greedy = {"max_new_tokens": 9, "do_sample": False}
    [one, many, drawn, again, refused, chat] = answer_all(
        service,
        post({"text": text, **greedy}),
        post({"inputs": [text, "x"], "parameters": greedy}),
        post({"text": text, "seed": 5}),
        post({"text": text, "seed": 5, "top_k": 60, "top_p": 0.95, "do_sample": True}),
        post({"text": text, "stream": True}),
        post({"messages": [{"role": "user", "content": "a"}]}),
    )
    ids = torch.tensor([made.tokenizer(text)["input_ids"]])
    tokens, _ = made.greedy(text, 9)
    expected = made.decode([*ids[0].tolist(), *tokens])
    assert (one.body, one.content_type) == (expected.encode(), "")
    assert json.loads(many.body)[0] == expected
    assert drawn.body == again.body != one.body
    assert drawn.body.decode().startswith(text)
    assert [refused.status, chat.status] == [422, 422]
