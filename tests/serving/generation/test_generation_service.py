"""Texts that are written together, beside what transformers writes of each alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.export.generation.helpers import MAX_LENGTH
from tests.serving.generation.helpers import Written, answer_all, ask, make, post
from tests.serving.helpers import change
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.generation.generation_service import GenerationService

TEXTS = (
    *("The film was long and the ending", "cold soup", "It works as described; the battery", "a"),
    *("Not bad at all, I would stay there again with my family.", "Café", "Übergröße", "x y z"),
)
WRITERS = ("gpt2", "llama", "t5")
writers = pytest.mark.parametrize("name", WRITERS)
Writers = Callable[[str], Written]


@pytest.fixture(scope="module")
def service(written: Writers) -> Callable[[str], GenerationService]:
    return cache(lambda name: written(name).service())


def details(text: str, **parameters: Any) -> dict[str, Any]:
    return {"inputs": text, "parameters": {"details": True, **parameters}}


def staggered(service: GenerationService, requests: list[HttpRequest]) -> list[Any]:
    """Values of the answers to requests of which one more comes every second step."""
    opened: list[Any] = []
    while len(opened) < len(requests) or not all(each.done for each in opened):
        if len(opened) < len(requests):
            opened.append(service.open(requests[len(opened)]))
            service.step()
        service.step()
    responses = [service.finish(each) for each in opened]
    assert [response.status for response in responses] == [200] * len(requests)
    return [json.loads(response.body)[0] for response in responses]


@writers
def test_greedy_texts_are_those_of_transformers(
    written: Writers, service: Callable[[str], GenerationService], name: str
) -> None:
    """Lengths are mixed; rows join while others are written, wait for room, and end at eos."""
    texts = [text for text in TEXTS for _ in range(2)]
    wanted = [(text, 3 + 5 * (at % 6)) for at, text in enumerate(texts)]
    answers = staggered(
        service(name), [post(details(text, max_new_tokens=new)) for text, new in wanted]
    )
    reasons = set()
    for (text, new), answer in zip(wanted, answers, strict=True):
        tokens, spelled = written(name).greedy(text, new)
        told = answer["details"]
        assert [token["id"] for token in told["tokens"]] == tokens
        assert answer["generated_text"] == spelled
        assert "".join(token["text"] for token in told["tokens"]) == spelled
        assert told["generated_tokens"] == len(tokens)
        ended = tokens[-1] in written(name).eos_ids
        assert told["finish_reason"] == ("eos_token" if ended else "length")
        reasons.add(told["finish_reason"])
    assert reasons == {"eos_token", "length"}


@writers
def test_same_seed_gives_the_same_text_alone_and_in_a_batch(
    service: Callable[[str], GenerationService], name: str
) -> None:
    options = [
        {"seed": seed, "temperature": 0.5 + seed, "top_k": 40 * seed, "top_p": 0.95}
        for seed in range(3)
    ]
    requests = [
        post(details(text, max_new_tokens=12, **each)) for text in TEXTS[:3] for each in options
    ]
    together = staggered(service(name), [*requests, post(details(TEXTS[0]))])
    alone = [staggered(service(name), [request])[0] for request in requests]
    for one, other in zip(together, alone, strict=False):
        assert [t["id"] for t in one["details"]["tokens"]] == [
            t["id"] for t in other["details"]["tokens"]
        ]
    assert len({each["generated_text"] for each in alone}) > len(alone) / 2
    assert [each["details"]["seed"] for each in alone[:3]] == [0, 1, 2]
    assert together[-1]["details"]["seed"] is None


@writers
def test_seeded_tokens_are_those_of_the_module(
    written: Writers, service: Callable[[str], GenerationService], name: str
) -> None:
    options = {"temperature": 1.3, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.2}
    [answer] = staggered(
        service(name), [post(details(TEXTS[0], max_new_tokens=15, seed=7, **options))]
    )
    module = torch.jit.load(str(written(name).folder / "traced_model.pt"))
    ids = torch.tensor([written(name).tokenizer(TEXTS[0])["input_ids"]])
    expected = module.generate(ids, torch.ones_like(ids), 15, True, **options, seeds=[7])
    assert [token["id"] for token in answer["details"]["tokens"]] == expected[0].tolist()


def test_logprobs_are_those_of_the_model(
    written: Writers, service: Callable[[str], GenerationService]
) -> None:
    [answer] = staggered(service("gpt2"), [post(details(TEXTS[0], max_new_tokens=6))])
    ids = written("gpt2").tokenizer(TEXTS[0])["input_ids"]
    tokens = answer["details"]["tokens"]
    for token in tokens:
        with torch.no_grad():
            shares = written("gpt2").model(torch.tensor([ids])).logits[0, -1].log_softmax(0)
        assert token["logprob"] == pytest.approx(float(shares[token["id"]]), abs=1e-4)
        ids.append(token["id"])


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_stop_strings_end_a_text_and_stay_in_it(
    written: Writers, service: Callable[[str], GenerationService], name: str
) -> None:
    ended = 0
    for text in TEXTS[:5]:
        _, spelled = written(name).greedy(text, 20)
        stop = spelled[len(spelled) // 2 :][:2]
        if not stop or "\ufffd" in stop:
            continue
        status, [answer] = ask(
            service(name), details(text, max_new_tokens=20, stop=["never there", stop])
        )
        assert status == 200
        assert answer["generated_text"] == spelled[: spelled.index(stop) + len(stop)]
        assert answer["details"]["finish_reason"] == "stop_sequence"
        ended += 1
    assert ended >= 2


def test_batch_never_holds_more_than_it_may(written: Writers, tmp_path: Any) -> None:
    folder = change(written("gpt2").folder, tmp_path / "small", config={"max_batch_tokens": 70})
    service = written("gpt2").service(folder)
    requests = [post(details(text, max_new_tokens=20)) for text in TEXTS]
    opened = [service.open(request) for request in requests]
    most = 0
    while not all(each.done for each in opened):  # type: ignore[union-attr]
        service.step()
        mask = service._scheduler._batch._cache[:1]
        held = mask[0].numel() if mask else 0
        most = max(most, held)
        assert service.counts()["running"] + service.counts()["waiting"] <= len(TEXTS)
    assert 40 < most <= 70
    for text, each in zip(TEXTS, opened, strict=True):
        value = json.loads(service.finish(each).body)[0]  # type: ignore[arg-type]
        assert value["generated_text"] == written("gpt2").greedy(text, 20)[1]
    status, error = ask(service, {"inputs": "a " * 60, "parameters": {"max_new_tokens": 20}})
    assert status == 413
    assert "tokens and 20 new ones are more than a batch of this server holds" in error["error"]


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("gpt2", {}, f"send at most {MAX_LENGTH - 1} "),
        ("gpt2", {"max_new_tokens": 30}, f"send at most {MAX_LENGTH - 30} .*max_new_tokens is 30"),
        ("t5", {}, f"send at most {MAX_LENGTH} "),
    ],
)
def test_long_prompt_is_told_how_long_it_may_be(
    service: Callable[[str], GenerationService], name: str, parameters: Any, says: str
) -> None:
    status, answer = ask(service(name), {"inputs": "The film " * 200, "parameters": parameters})
    assert status == 413
    assert re.search(says, answer["error"])


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1 to 95"),
        ({"temperature": -0.1}, "temperature must be a number of at least 0 and at most 100"),
        ({"temperature": True}, "temperature must be a number"),
        ({"top_p": 1.1}, "top_p must be a number of at least 0 and at most 1"),
        ({"top_k": -1}, "top_k must be a whole number from 0"),
        ({"repetition_penalty": "1"}, "repetition_penalty must be a number"),
        ({"repetition_penalty": 1e-38}, "repetition_penalty must be a number of at least 0.01"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"stop": "a"}, "stop must be a list of at most 4 strings"),
        ({"stop": [""]}, "stop must be a list of at most 4 strings"),
        ({"stop": ["\ud800"]}, "stop must be a list of at most 4 strings"),
        ({"do_sample": 1}, "do_sample must be true or false"),
        ({"num_beams": 2}, "a key that is not known"),
    ],
)
def test_wrong_parameters_are_refused_and_neighbours_untouched(
    service: Callable[[str], GenerationService], written: Writers, parameters: Any, says: str
) -> None:
    good = post({"inputs": TEXTS[1], "parameters": {"max_new_tokens": 4}})
    bad, fine = answer_all(service("gpt2"), post({"inputs": "a", "parameters": parameters}), good)
    assert bad.status == 422
    assert says in json.loads(bad.body)["error"]
    assert json.loads(fine.body) == [{"generated_text": written("gpt2").greedy(TEXTS[1], 4)[1]}]


def test_forms_of_requests(service: Callable[[str], GenerationService], written: Writers) -> None:
    new = {"max_new_tokens": 4}
    one, two = ([{"generated_text": written("gpt2").greedy(text, 4)[1]}] for text in TEXTS[:2])
    used = service("gpt2")
    assert ask(used, {"inputs": TEXTS[0], "parameters": new}) == (200, one)
    assert ask(used, {"inputs": [*TEXTS[:2]], "parameters": new}) == (200, [one, two])
    assert ask(used, {"text": TEXTS[0], **new}) == (200, one)
    assert ask(used, {"instances": [TEXTS[0]], "parameters": new}) == (200, {"predictions": [one]})
    full = ask(used, {"inputs": TEXTS[0], "parameters": {**new, "return_full_text": True}})
    assert full[1][0]["generated_text"] == TEXTS[0] + one[0]["generated_text"]
    status, many = ask(used, {"inputs": ["a"] * 5})
    assert (status, many["error"]) == (413, "5 texts in one request; send at most 4 at a time")
    status, error = ask(used, {"inputs": ["a", " "]})
    assert (status, error["error"][:19]) == (422, "item 1 of the list:")


def test_plain_text_is_the_text_alone(
    service: Callable[[str], GenerationService], written: Writers
) -> None:
    request = HttpRequest({"body": TEXTS[0].encode()}, {"body": "text/plain"}, "text/plain")
    [response] = answer_all(service("gpt2"), request)
    assert response.body.decode() == written("gpt2").greedy(TEXTS[0], 20)[1]


@writers
def test_events_of_a_stream(
    service: Callable[[str], GenerationService], written: Writers, name: str
) -> None:
    used = service(name)
    value = {"inputs": TEXTS[0], "parameters": {"max_new_tokens": 9}, "stream": True}
    beside = post({"inputs": TEXTS[1], "parameters": {"max_new_tokens": 14}})
    streamed, plain = answer_all(used, post(value), beside)
    tokens, text = written(name).greedy(TEXTS[0], 9)
    assert json.loads(plain.body)[0]["generated_text"] == written(name).greedy(TEXTS[1], 14)[1]
    events = [each for each in streamed.body.decode().split("\n\n") if each]
    values = [json.loads(each.removeprefix("data:")) for each in events]
    assert [each["token"]["id"] for each in values] == tokens
    assert "".join(each["token"]["text"] for each in values) == text
    assert [each["details"] for each in values[:-1]] == [None] * (len(values) - 1)
    assert values[-1]["generated_text"] == text
    assert values[-1]["details"]["generated_tokens"] == len(tokens)


def test_stream_of_a_list_is_refused(service: Callable[[str], GenerationService]) -> None:
    status, error = ask(service("gpt2"), {"inputs": ["a"], "stream": True})
    assert status == 422 and "stream is for one text" in error["error"]


def test_client_that_leaves_frees_its_row(service: Callable[[str], GenerationService]) -> None:
    used = service("gpt2")
    gone, stays = (used.open(post(details(text, max_new_tokens=60))) for text in TEXTS[:2])
    used.step()
    assert used.counts()["running"] == 2
    used.close(gone)  # type: ignore[arg-type]
    used.step()
    assert used.counts()["running"] == 1
    used.close(stays)  # type: ignore[arg-type]
    steps = used.counts()["steps"]
    used.step()
    assert used.counts()["running"] == 0
    assert used.counts()["steps"] == steps


def test_module_that_fails_fails_its_requests_and_no_others(
    service: Callable[[str], GenerationService],
    written: Writers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    used = written("gpt2").service()
    batch = used._scheduler._batch
    read = batch.read

    def picky(answers: Any) -> Any:
        if any(len(answer.prompt) == 1 for answer in answers):
            raise RuntimeError(TEXTS[3] + TEXTS[0])
        return read(answers)

    monkeypatch.setattr(batch, "read", picky)
    requests = [post({"inputs": text, "parameters": {"max_new_tokens": 3}}) for text in TEXTS[:4]]
    responses = answer_all(used, *requests)
    assert [response.status for response in responses] == [200, 200, 200, 500]
    assert TEXTS[0] not in caplog.text
    assert "RuntimeError while writing" in caplog.text


def test_forced_tokens_are_those_of_transformers(tmp_path: Any) -> None:
    made = make("t5", tmp_path / "forced", first=17, last=3)
    used = made.service()
    requests = [
        post(details(text, max_new_tokens=new, repetition_penalty=1.5))
        for text, new in zip(TEXTS, (3, 9, 5, 2), strict=False)
    ]
    for request, answer in zip(requests, staggered(used, requests), strict=True):
        body = json.loads(request.fields["body"])
        tokens, _ = made.greedy(
            body["inputs"], body["parameters"]["max_new_tokens"], repetition_penalty=1.5
        )
        assert [token["id"] for token in answer["details"]["tokens"]] == tokens
        assert tokens[0] == 17


def test_a_model_that_writes_tells_about_itself_and_refuses_what_others_do(
    service: Callable[[str], GenerationService], written: Writers
) -> None:
    def said(path: str, value: object) -> tuple[int, Any]:
        [response] = answer_all(service("gpt2"), post(value, path=path))
        return response.status, json.loads(response.body)

    status, [tokens] = said("tokenize", {"inputs": TEXTS[0]})
    assert [each["id"] for each in tokens] == written("gpt2").tokenizer(TEXTS[0])["input_ids"]
    [info] = answer_all(service("gpt2"), HttpRequest({"body": b""}, {}, path="info"))
    assert json.loads(info.body)["model_type"] == {"text_generation": {}}
    assert said("embed", {"inputs": "a"})[1].keys() == {"error", "error_type"}
    assert said("v1/rerank", {})[1].keys() == {"message"}
    status, answer = said("v1/embeddings", {"input": "a"})
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


def test_the_document_is_openapi_and_shows_the_parameters(
    service: Callable[[str], GenerationService],
) -> None:
    [response] = answer_all(service("gpt2"), HttpRequest({}, {}, purpose="describe"))
    api = json.loads(response.body)["openapi"]
    OpenAPIV31SpecValidator(api).validate()
    shown = api["components"]["schemas"]["Parameters"]["properties"]
    assert shown["max_new_tokens"]["maximum"] == MAX_LENGTH - 1
    assert (shown["temperature"]["minimum"], shown["temperature"]["maximum"]) == (0, 100)
    assert (shown["top_p"]["minimum"], shown["repetition_penalty"]["minimum"]) == (0, 0.01)
    schema = {"$ref": "#/components/schemas/Reply", **api}
    _, value = ask(service("gpt2"), details("a", max_new_tokens=3))
    Draft202012Validator(schema).validate(value)
    request = {"$ref": "#/components/schemas/Request", **api}
    Draft202012Validator(request).validate(details("a", max_new_tokens=3, stop=["\n"], stream=True))
