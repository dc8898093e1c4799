"""OpenAI's embeddings: the native vectors in another form; what else a client may send."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.serving.helpers import CPU, ask
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]

TEXTS = ["It works.", "We waited an hour for cold soup."]
ADDRESSES = ("embeddings", "v1/embeddings", "")


def embeddings(service: Service, path: str = "embeddings", **members: object) -> Any:
    status, answer = ask(service, members, path)
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("path", ADDRESSES)
def test_vectors_are_the_native_ones(service: Named, path: str) -> None:
    _, native = ask(service("bert_embedding"), TEXTS)
    answer = embeddings(service("bert_embedding"), path, input=TEXTS, user="ada", dimensions=None)
    entries = [
        {"object": "embedding", "index": at, "embedding": vector}
        for at, vector in enumerate(native)
    ]
    assert (answer["object"], answer["model"], answer["data"]) == ("list", "", entries)
    [alone] = embeddings(service("bert_embedding"), path, input=TEXTS[0])["data"]
    assert alone["embedding"] == pytest.approx(native[0], abs=1e-6)


def test_usage_counts_the_tokens_that_the_model_read(service: Named) -> None:
    tokens = ask(service("bert_embedding"), {"inputs": TEXTS}, "tokenize")[1]
    count = sum(map(len, tokens))
    usage = embeddings(service("bert_embedding"), input=TEXTS)["usage"]
    assert usage == {"prompt_tokens": count, "total_tokens": count}
    long = embeddings(service("bert_embedding"), input="a " * 500)["usage"]
    assert long["prompt_tokens"] == 64


def test_base64_holds_the_same_float32(service: Named) -> None:
    def vector(**how: object) -> Any:
        return embeddings(service("bert_embedding"), input=TEXTS[0], **how)["data"][0]["embedding"]

    packed = base64.b64decode(vector(encoding_format="base64"), validate=True)
    numbers = vector(encoding_format="float")
    assert list(struct.unpack(f"<{len(numbers)}f", packed)) == numbers


def test_parameters_of_the_mode_stand_beside_the_input(service: Named) -> None:
    wanted = {"prompt_name": "query", "normalize": True, "dimensions": 8}
    answer = embeddings(service("roberta_embedding"), input=TEXTS, **wanted)
    native = ask(service("roberta_embedding"), {"inputs": TEXTS, **wanted})[1]
    assert [each["embedding"] for each in answer["data"]] == native


def test_another_model_is_told(artifact: Callable[[str], Any]) -> None:
    named = Service(artifact("bert_embedding"), CPU, "embeddings")
    assert embeddings(named, input="a", model="embeddings")["model"] == "embeddings"
    status, answer = ask(named, {"input": "a", "model": "text-embedding-3-small"}, "embeddings")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert answer["error"]["message"] == "this address serves embeddings; send that as model"


def test_another_mode_is_told_at_the_address_and_reads_its_own_form_elsewhere(
    service: Named,
) -> None:
    status, answer = ask(service("bert"), {"input": "a"}, "embeddings")
    assert (status, answer["error"]["type"]) == (404, "invalid_request_error")
    assert answer["error"]["message"].startswith("this model gives no embeddings; ")
    status, answer = ask(service("bert"), {"input": "a"})
    assert (status, "a key that is not known" in answer["error"]) == (422, True)
