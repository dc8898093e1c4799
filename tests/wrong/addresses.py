"""Wrong requests at the addresses of other people's APIs, and the forms of their errors."""

from __future__ import annotations

import json
from typing import Any

from tests.wrong.core import MOST
from tests.wrong.rows import VERSIONED, Sample, Wrong, as_json, typed, unshown

OPENAI = ("embeddings", "v1/embeddings")
COHERE = ("v1/rerank", "v2/rerank")
TEI = ("embed", "embed_sparse", "rerank", "predict", "tokenize")
ADDRESSES = (*OPENAI, *COHERE, *TEI)

NO_OBJECTS = ("[]", '"a"', "5", "null", "true")
NO_BOOLEANS = ("0", '"true"', "[]")


def sentence(error: Any, address: str = "") -> str:
    """Return the sentence of an error, which has the form of its address and no more."""
    if address in OPENAI:
        assert error.keys() == {"error"}
        error = error["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return str(error["message"])
    if address in COHERE:
        assert error.keys() == {"message"}
        return str(error["message"])
    assert error.keys() == ({"error", "error_type"} if address in TEI else {"error"})
    return str(error["error"])


def addressed(sample: Sample) -> list[Wrong]:
    """The rows of a mode."""
    return {
        "sequence_classification": _labels,
        "feature_extraction": _embeddings,
        "reranking": _ranking,
    }.get(sample.mode, _nothing)()


def _wrong(address: str, what: str, status: int, says: str, *texts: str) -> Wrong:
    return Wrong(f"`/{address}`: {what}", status, says, as_json(texts, VERSIONED + address))


def _long(address: str, what: str, status: int, says: str, text: str, shown: str) -> Wrong:
    sent = unshown([text], shown, VERSIONED + address)
    return Wrong(f"`/{address}`: {what}", status, says, sent)


def _nothing() -> list[Wrong]:
    return [
        _wrong("embed", "a model that does not embed", 424, "this model gives no emb", "{}", "5"),
        _wrong("embeddings", "the same", 404, "this model gives no embeddings", "{}"),
    ]


def _labels() -> list[Wrong]:
    path = VERSIONED + "predict"
    return [
        *_nothing(),
        _wrong("v2/rerank", "a model that ranks nothing", 404, "this model ranks no texts", "{}"),
        _wrong("rerank", "the same", 424, "this model ranks no texts", "{}", '{"texts": []}'),
        Wrong("`/predict`: no JSON", 400, "but is not", typed("application/json", b"{", path=path)),
        _wrong("predict", "no object", 422, 'send an object: {"inputs": ...}', *NO_OBJECTS),
        _wrong("predict", "no inputs", 422, "the request has no inputs", "{}", '{"inputs": null}'),
        _wrong(
            "predict",
            "three texts in a list, or lists in such lists",
            422,
            "inputs must be a text, one or two texts",
            '{"inputs": ["a", "b", "c"]}',
            '{"inputs": [["a"], []]}',
            '{"inputs": []}',
            '{"inputs": [[["a"]]]}',
        ),
        _wrong(
            "predict",
            "something else where a text is wanted",
            422,
            "send a string",
            '{"inputs": 5}',
            '{"inputs": {"text": "a"}}',
            '{"inputs": [["a"], 5]}',
        ),
        _wrong(
            "predict",
            "`raw_scores` that is not `true` or `false`",
            422,
            "raw_scores must be true or false",
            *(f'{{"inputs": "a", "raw_scores": {each}}}' for each in NO_BOOLEANS),
        ),
        _wrong(
            "predict",
            "`truncation_direction` that is neither side",
            422,
            "truncation_direction must be one of left, right",
            *(f'{{"inputs": "a", "truncation_direction": {each}}}' for each in ('"up"', "5", "[]")),
        ),
        _long(
            "predict",
            "a text over `max_length`, with `truncate` false",
            413,
            "truncate is false; send a shorter text",
            json.dumps({"inputs": "a " * 100, "truncate": False}),
            "100 words",
        ),
        _wrong(
            "tokenize",
            "something else where a text is wanted, or an empty one",
            422,
            "item 1 of the list is ",
            *(f'{{"inputs": ["a", {each}]}}' for each in ("5", "null", '""', "[]", "{}")),
        ),
        _wrong(
            "tokenize",
            "`add_special_tokens` that is not `true` or `false`",
            422,
            "add_special_tokens must be true or false",
            '{"inputs": "a", "add_special_tokens": 1}',
        ),
        _long(
            "tokenize",
            "more texts than `max_client_batch`",
            413,
            f"17 texts; send at most {MOST} at a time",
            json.dumps({"inputs": ["a"] * 17}),
            "17 texts",
        ),
        _long(
            "tokenize",
            "more than 100,000 tokens",
            413,
            "the texts have over 100000 tokens",
            json.dumps({"inputs": "a " * 100_000}),
            "100,000 words",
        ),
    ]


def _embeddings() -> list[Wrong]:
    ids = ("[1, 2]", "[[1, 2], [3]]", '["a", 5]')
    path = VERSIONED + "embeddings"
    return [
        Wrong(
            "`/embeddings`: no body",
            400,
            "the body is empty",
            typed(None, b"", shown="nothing", path=path),
        ),
        _wrong("embeddings", "no object", 400, "send an object", *NO_OBJECTS),
        _wrong(
            "embeddings", "no `input`", 400, "the request has no input", "{}", '{"input": null}'
        ),
        _wrong(
            "embeddings",
            "token ids",
            400,
            "input holds token ids",
            *(f'{{"input": {each}}}' for each in ids),
        ),
        _wrong("embeddings", "no texts", 400, "the list is empty", '{"input": []}'),
        _wrong(
            "embeddings",
            "something else where a text is wanted, or an empty one",
            400,
            "send ",
            *(f'{{"input": {each}}}' for each in ("5", '""', "{}", '["a", null]', '["a", ""]')),
        ),
        _wrong(
            "embeddings",
            "an unknown key",
            400,
            "a key that is not known",
            '{"input": "a", "inputs": "a"}',
            '{"input": "a", "colour": 1}',
        ),
        _wrong(
            "embeddings",
            "`encoding_format` that is not one of its words",
            400,
            "encoding_format must be one of float, base64",
            *(f'{{"input": "a", "encoding_format": {each}}}' for each in ('"int8"', "5", "[]")),
        ),
        _wrong(
            "embeddings",
            "`dimensions` beyond the vector, or no whole number",
            400,
            "dimensions must be a whole number ",
            *(f'{{"input": "a", "dimensions": {each}}}' for each in ("0", "33", "1.5", '"2"')),
        ),
        _long(
            "embeddings",
            "more texts than `max_client_batch`",
            413,
            f"texts in one request; send at most {MOST} at a time",
            json.dumps({"input": ["a"] * 17}),
            "17 texts",
        ),
        _wrong(
            "embed",
            "token ids",
            422,
            "inputs holds token ids",
            *(f'{{"inputs": {each}}}' for each in ids),
        ),
        _wrong("embed", "no inputs", 422, "the request has no inputs", "{}", '{"inputs": null}'),
        _wrong("embed", "an unknown key", 422, "not known", '{"inputs": "a", "text": "a"}'),
        _wrong(
            "embed",
            "`normalize` false for a model that normalises",
            422,
            "normalises its",
            ('{"inputs": "a", "normalize": false}'),
        ),
        _wrong("predict", "a model without labels", 424, "this model gives texts no labels", "{}"),
        _wrong("embed_sparse", "a model of dense vectors", 424, "no sparse embeddings", "{}"),
    ]


def _ranking() -> list[Wrong]:
    def rank(documents: str, more: str = "") -> str:
        return f'{{"query": "a", "documents": {documents}{more}}}'

    def texts(value: str, more: str = "") -> str:
        return f'{{"query": "a", "texts": {value}{more}}}'

    return [
        *_nothing(),
        _wrong("v2/rerank", "no object", 422, "send an object", *NO_OBJECTS),
        _wrong(
            "v2/rerank",
            "no query or no documents",
            422,
            "the request has no query or no documents",
            "{}",
            '{"query": "a"}',
            '{"documents": ["a"]}',
        ),
        _wrong(
            "v2/rerank",
            "documents that are no list, or an empty one",
            422,
            "documents must be a list of at least one text",
            *map(rank, ('"a"', "[]", "5", "{}")),
        ),
        _wrong(
            "v1/rerank",
            "a document of other keys than `text`",
            422,
            "document 1 must be a text",
            rank('["a", {"title": "b"}]'),
            rank('["a", {}]'),
        ),
        _wrong(
            "v1/rerank",
            "something else where a text is wanted, or an empty one",
            422,
            "passage 0 is ",
            *map(rank, ("[5]", "[null]", '[""]', '[{"text": 5}]', "[[]]")),
        ),
        _wrong(
            "v2/rerank", "`top_n` below 1", 422, "top_n must be a", rank('["a"]', ', "top_n": 0')
        ),
        _wrong(
            "v2/rerank",
            "a field that this server lacks",
            422,
            "this server has no max_tokens_per_doc; leave it out",
            rank('["a"]', ', "max_tokens_per_doc": 4096'),
        ),
        _long(
            "v2/rerank",
            "more documents than `max_client_batch`",
            413,
            f"texts in one request; send at most {MOST} at a time",
            rank(json.dumps(["a"] * 17)),
            "17 documents",
        ),
        _wrong(
            "rerank",
            "texts that are no list, or an empty one",
            422,
            "texts must be a list of at least one text",
            *map(texts, ('"a"', "[]", "5")),
        ),
        _wrong(
            "rerank",
            "`return_text` that is not `true` or `false`",
            422,
            "return_text must be true or false",
            *(texts('["a"]', f', "return_text": {each}') for each in NO_BOOLEANS),
        ),
        _wrong("rerank", "documents that are no list", 422, "documents must be a", rank("5")),
    ]
