"""Reranking in the form of Cohere and Jina: `{"query", "documents"}` -> `{"results": [...]}`.

Source: https://docs.cohere.com/reference/rerank, https://jina.ai/reranker
"""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

from torchscript_bundle.serving.api.fields import Text
from torchscript_bundle.serving.api.http import Client, HttpResponse, json_response
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    STRING,
    array,
    either,
    record,
    words,
)
from torchscript_bundle.serving.api.openai.messages import Neutral, check_neutral
from torchscript_bundle.serving.api.protocols import schemas
from torchscript_bundle.serving.api.protocols.call import (
    USAGE,
    Call,
    FailureForm,
    Offer,
    ProtocolSchemas,
    RequestFields,
    RequestProtocol,
    check_offer,
    token_usage,
)
from torchscript_bundle.serving.api.values import check_keys, check_model, without_nulls
from torchscript_bundle.serving.errors import RequestError

DOCUMENTS = "documents"
FORM = '{"query": "...", "documents": ["...", "..."]}'
#: Parameters of the mode that this API has as well.
PARAMETERS = ("top_n", "return_documents")
#: Unsupported fields -> values, beside null, that may be sent.
NEUTRAL: Neutral = {
    "max_tokens_per_doc": (),
    "max_chunks_per_doc": (),
    "rank_fields": (["text"],),
    "relevant_spans": (),
    "return_embeddings": (False,),
}
#: Fields that do not change the answer.
IGNORED = ("priority",)


class CohereRerank(RequestProtocol):
    """Cohere's first and second version, and Jina's: a relevance from 0 to 1 for each document."""

    keys = (DOCUMENTS,)
    offer: Offer | None = "ranking"
    #: The last is text-embeddings-inference's as well.
    paths = ("v1/rerank", "v2/rerank", "rerank")
    failures: FailureForm | None = FailureForm("Cohere", record({"message": STRING}))

    def recognizes(self, payload: object, client: Client) -> bool:
        return isinstance(payload, dict) and DOCUMENTS in payload

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        check_offer(fields, "ranking")
        if not isinstance(payload, dict):
            raise RequestError(422, f"send an object: {FORM}")
        check_keys(payload, ("query", DOCUMENTS, "model", *PARAMETERS, *NEUTRAL, *IGNORED))
        given = without_nulls(payload)
        check_neutral(given, NEUTRAL, "this server has no {name}; leave it out")
        check_model(given.get("model", model_name), model_name)
        if "query" not in given or DOCUMENTS not in given:
            raise RequestError(422, f"the request has no query or no {DOCUMENTS}; send {FORM}")
        texts = _texts(given[DOCUMENTS])
        parameters = {name: given[name] for name in PARAMETERS if name in given}

        def answer(answers: list[Any]) -> dict[str, Any]:
            results = [_result(entry) for entry in answers[0]]
            head = {"id": str(uuid.uuid4()), "object": "list", "model": model_name}
            return {**head, "results": results}

        item = {"query": given["query"], "passages": texts}
        raw = {**parameters, "raw_scores": True}
        return Call([item], raw, answer, listed=False, usage=token_usage)

    def adapt(self, response: HttpResponse) -> HttpResponse:
        message = {"message": json.loads(response.body)["error"]}
        return json_response(response.status, message, response.headers)

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas | None:
        if "ranking" not in fields.offers:
            return None
        text = Text(DOCUMENTS, "").bounds()
        each = either(text, record({"text": text}))
        beside = {name: fields.parameters[name].schema() for name in PARAMETERS}
        request = record(
            {"query": text, DOCUMENTS: array(each, minItems=1, maxItems=most_items)},
            {
                **schemas.nullable({**beside, "model": STRING}),
                **{name: {"enum": [None, *values]} for name, values in NEUTRAL.items()},
                **{name: {} for name in IGNORED},
            },
        )
        score = {"type": "number", "minimum": 0, "maximum": 1}
        document = {"document": record({"text": STRING})}
        entry = record({"index": COUNT, "relevance_score": score}, document)
        reply = record(
            {
                **{"id": STRING, "object": words(["list"]), "model": STRING},
                **{"results": array(entry, minItems=1), "usage": USAGE},
            }
        )
        item = schemas.examples(fields.item_keys)
        example = {"query": item["query"], DOCUMENTS: item["passages"], "top_n": 1}
        return ProtocolSchemas("CohereRerank", request, reply, {"Cohere": example})


def sigmoid(logit: float) -> float:
    """Return the logistic function of a number, however large."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    odds = math.exp(logit)
    return odds / (1 + odds)


def _texts(documents: object) -> list[object]:
    if not isinstance(documents, list) or not documents:
        raise RequestError(422, f"{DOCUMENTS} must be a list of at least one text; send {FORM}")
    return [_text(each, at) for at, each in enumerate(documents)]


def _text(document: object, at: int) -> object:
    if not isinstance(document, dict):
        return document
    if document.keys() != {"text"}:
        raise RequestError(422, f'document {at} must be a text, or {{"text": "..."}}')
    return document["text"]


def _result(entry: dict[str, Any]) -> dict[str, Any]:
    document = {"document": {"text": entry["text"]}} if "text" in entry else {}
    return {
        "index": entry["index"],
        "relevance_score": sigmoid(entry["score"]),
        **document,
    }
