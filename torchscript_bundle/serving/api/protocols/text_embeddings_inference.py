"""The addresses of Hugging Face's text-embeddings-inference, each after a model's version.

Source: https://huggingface.github.io/text-embeddings-inference
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from tokenizers import Encoding

from torchscript_bundle.serving.api.fields import TEXT, Boolean
from torchscript_bundle.serving.api.http import Client, HttpResponse, json_response
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    NUMBER,
    STRING,
    JsonSchema,
    array,
    either,
    record,
)
from torchscript_bundle.serving.api.protocols import schemas
from torchscript_bundle.serving.api.protocols.call import (
    VERSION,
    Call,
    FailureForm,
    Lookup,
    Offer,
    ProtocolSchemas,
    RequestFields,
    RequestProtocol,
    Served,
    check_offer,
)
from torchscript_bundle.serving.api.protocols.cohere_rerank import sigmoid
from torchscript_bundle.serving.api.protocols.schemas import ref
from torchscript_bundle.serving.api.values import check_keys, check_text, without_nulls
from torchscript_bundle.serving.errors import RequestError

INPUTS = "inputs"
#: The end of a text that is cut, in small letters or large ones.
SIDE = "truncation_direction"
SIDES = "^([Ll][Ee][Ff][Tt]|[Rr][Ii][Gg][Hh][Tt])$"
#: Of a text that is too long.
CUTTING = ("truncate", SIDE)
TOKEN_IDS = f"{INPUTS} holds token ids, which are another tokenizer's; send texts"
SEQUENCES = (
    f"{INPUTS} must be a text, one or two texts that belong together in a list, or a list of such "
    "lists"
)
#: Status of an error -> the one that this API has for it, where it is another.
STATUSES = {404: 424, 500: 424, 503: 429}
#: Types of errors by status; other errors are of the type "Validation".
ERROR_TYPES = {424: "Backend", 429: "Overloaded", 504: "Overloaded"}
#: What a model offers -> its type in this API's words.
MODEL_TYPES: dict[Offer, str] = {
    "embeddings": "embedding",
    "sparse_embeddings": "embedding",
    "ranking": "reranker",
    "labels": "classifier",
}
#: Members of /info that are numbers.
BOUNDS = (
    *("max_concurrent_requests", "max_input_length", "max_batch_tokens", "max_batch_requests"),
    *("max_client_batch_size", "tokenization_workers"),
)
_TEXT = TEXT.bounds()
_LABELS = array(record({"score": NUMBER, "label": STRING}), minItems=1)
_PLACE = {"type": ["integer", "null"], "minimum": 0}
_TOKEN = record(
    {
        **{"id": COUNT, "text": STRING, "special": {"type": "boolean"}},
        **{"start": _PLACE, "stop": _PLACE},
    }
)
#: Most tokens in an answer of /tokenize, of some 60 bytes each.
MOST_TOKENS = 100_000


class TextEmbeddingsInference(RequestProtocol):
    """One address of that server; elsewhere the same body is a native request."""

    anywhere = False
    #: JSON Schema of its answer.
    reply: JsonSchema
    failures: FailureForm | None = FailureForm(
        "TextEmbeddingsInference", record({"error": STRING, "error_type": STRING}), STATUSES
    )

    @property
    def name(self) -> str:
        """The prefix of its schemas in the OpenAPI document."""
        return f"TextEmbeddingsInference{type(self).__name__}"

    def recognizes(self, payload: object, client: Client) -> bool:
        return False

    def adapt(self, response: HttpResponse) -> HttpResponse:
        status = STATUSES.get(response.status, response.status)
        kind = ERROR_TYPES.get(status, "Validation")
        error = {"error": json.loads(response.body)["error"], "error_type": kind}
        return json_response(status, error, response.headers)


class Posted(TextEmbeddingsInference):
    """An address that reads objects with the keys `needed` and perhaps `known`, null or not."""

    needed: tuple[str, ...] = (INPUTS,)
    known: tuple[str, ...]
    example: Mapping[str, object] = {INPUTS: [TEXT.example]}

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call | Lookup:
        if self.offer is not None:
            check_offer(fields, self.offer)
        form = "{" + ", ".join(f'"{key}": ...' for key in self.needed) + "}"
        if not isinstance(payload, dict):
            raise RequestError(422, f"send an object: {form}")
        check_keys(payload, (*self.needed, *self.known))
        given = without_nulls(payload)
        missing = [key for key in self.needed if key not in given]
        if missing:
            raise RequestError(422, f"the request has no {', '.join(missing)}; send {form}")
        return self.read_members(given, fields)

    @abstractmethod
    def read_members(self, given: Mapping[str, Any], fields: RequestFields) -> Call | Lookup:
        """Read the members of a request that are not null, of which only the names are checked."""

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas | None:
        if self.offer is not None and self.offer not in fields.offers:
            return None
        request = record(self.needed_members(most_items), schemas.nullable(self.members(fields)))
        return ProtocolSchemas(self.name, request, self.reply, {"a request": self.example})

    def needed_members(self, most_items: int) -> dict[str, JsonSchema]:
        """Return the JSON Schema of each member that a request must have."""
        return {INPUTS: either(_TEXT, array(_TEXT, minItems=1, maxItems=most_items))}

    def members(self, fields: RequestFields) -> dict[str, JsonSchema]:
        """Return the JSON Schema of each other member: by default that of the mode's parameter."""
        beside = {
            name: fields.parameters[name].schema() if name in fields.parameters else {"not": {}}
            for name in self.known
        }
        if SIDE in fields.parameters and SIDE in beside:
            beside[SIDE] = {"type": "string", "pattern": SIDES}
        return beside


class Embed(Posted):
    """Vectors of texts, of the length 1 where the request does not say otherwise."""

    paths = ("embed",)
    offer: Offer | None = "embeddings"
    known = ("normalize", "dimensions", "prompt_name", *CUTTING)
    reply = array(ref("Answer"))

    def read_members(self, given: Mapping[str, Any], fields: RequestFields) -> Call:
        parameters = {"normalize": True, **_parameters(given, self.known, fields)}
        return _texts_call(given[INPUTS], parameters)


class EmbedSparse(Posted):
    """Sparse vectors of texts: lists of `{"index", "value"}`."""

    paths = ("embed_sparse",)
    offer: Offer | None = "sparse_embeddings"
    known = ("prompt_name", *CUTTING)
    reply = array(ref("Answer"))

    def read_members(self, given: Mapping[str, Any], fields: RequestFields) -> Call:
        return _texts_call(given[INPUTS], _parameters(given, self.known, fields))


class Rerank(Posted):
    """Texts by their relevance for a query, from 0 to 1 or, with `raw_scores`, as logits."""

    paths = ("rerank",)
    offer: Offer | None = "ranking"
    needed = ("query", "texts")
    known = ("raw_scores", "return_text", *CUTTING)
    reply = array(record({"index": COUNT, "score": NUMBER}, {"text": STRING}), minItems=1)
    example: Mapping[str, object] = {
        "query": "battery life",
        "texts": ["It lasts two days.", "The film was long."],
    }

    def needed_members(self, most_items: int) -> dict[str, JsonSchema]:
        return {"query": _TEXT, "texts": array(_TEXT, minItems=1, maxItems=most_items)}

    def read_members(self, given: Mapping[str, Any], fields: RequestFields) -> Call:
        if not isinstance(given["texts"], list) or not given["texts"]:
            raise RequestError(422, "texts must be a list of at least one text")
        raw = _flag(given, "raw_scores", default=False)

        def answer(answers: list[Any]) -> list[dict[str, Any]]:
            return [
                {
                    "index": entry["index"],
                    **({"text": entry["text"]} if "text" in entry else {}),
                    "score": entry["score"] if raw else sigmoid(entry["score"]),
                }
                for entry in answers[0]
            ]

        parameters = {
            "return_documents": _flag(given, "return_text", default=False),
            "raw_scores": True,
            **_parameters(given, CUTTING, fields),
        }
        item = {"query": given["query"], "passages": given["texts"]}
        return Call([item], parameters, answer, listed=False)


class Predict(Posted):
    """All labels of each text or pair of texts, the best first."""

    paths = ("predict",)
    offer: Offer | None = "labels"
    known = ("raw_scores", *CUTTING)
    reply = either(_LABELS, array(_LABELS, minItems=1))
    example: Mapping[str, object] = {INPUTS: TEXT.example}

    def needed_members(self, most_items: int) -> dict[str, JsonSchema]:
        sequence = array(_TEXT, minItems=1, maxItems=2)
        many = array(either(_TEXT, sequence), minItems=1, maxItems=most_items)
        return {INPUTS: either(_TEXT, sequence, {**many, "prefixItems": [sequence]})}

    def read_members(self, given: Mapping[str, Any], fields: RequestFields) -> Call:
        parameters = {"top_k": None, **_parameters(given, self.known, fields)}
        sent = given[INPUTS]
        many = isinstance(sent, list) and bool(sent) and isinstance(sent[0], list)
        items = [_sequence(each) for each in (sent if many else [sent])]

        def answer(answers: list[Any]) -> list[Any]:
            found = [list(map(_label, labels)) for labels in answers]
            return found if many else found[0]

        return Call(items, parameters, answer, listed=many)


class Tokenize(Posted):
    """The tokens of texts, none of which is cut."""

    paths = ("tokenize",)
    known = ("add_special_tokens",)
    reply = array(array(_TOKEN))

    def needed_members(self, most_items: int) -> dict[str, JsonSchema]:
        return {INPUTS: either(_TEXT, array(_TEXT, maxItems=most_items))}

    def members(self, fields: RequestFields) -> dict[str, JsonSchema]:
        return {"add_special_tokens": {"type": "boolean"}}

    def read_members(self, given: Mapping[str, Any], fields: RequestFields) -> Lookup:
        sent = given[INPUTS]
        listed = isinstance(sent, list)
        names = [f"item {at} of the list" for at in range(len(sent))] if listed else []
        special_tokens = _flag(given, "add_special_tokens", default=True)

        def answer(served: Served) -> list[Any]:
            most = served.options.max_client_batch
            if len(names) > most:
                raise RequestError(413, f"{len(names)} texts; send at most {most} at a time")
            texts = list(map(check_text, sent, names)) if listed else [check_text(sent)]
            found = [
                served.encoder.encode_uncut(text, special_tokens=special_tokens) for text in texts
            ]
            if sum(map(len, found)) > MOST_TOKENS:
                raise RequestError(
                    413, f"the texts have over {MOST_TOKENS} tokens; send fewer or shorter ones"
                )
            return [list(_tokens(*each)) for each in zip(texts, found, strict=True)]

        return Lookup(answer)


class Info(TextEmbeddingsInference):
    """Facts of the model and bounds of requests; its clients send no body."""

    paths = ("info",)
    needs_body = False
    reply = record(
        {
            **dict.fromkeys(("model_id", "model_dtype", "version"), STRING),
            **{name: {"type": ["string", "null"]} for name in ("model_sha", "sha", "docker_label")},
            **dict.fromkeys(BOUNDS, COUNT),
            "model_type": {"type": "object"},
            "auto_truncate": {"type": "boolean"},
        }
    )

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Lookup:
        return Lookup(_facts)

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas:
        return ProtocolSchemas(self.name, {}, self.reply, {})


#: An entry of `protocols.PROTOCOLS` each.
ADDRESSES = (Embed(), EmbedSparse(), Rerank(), Predict(), Tokenize(), Info())


def _texts_call(sent: object, parameters: Mapping[str, object]) -> Call:
    """Return the call of a text or a list of texts, which gets a list in both cases."""
    texts = sent if isinstance(sent, list) else [sent]
    if isinstance(sent, list) and any(isinstance(each, int | list) for each in texts):
        raise RequestError(422, TOKEN_IDS)
    items = [{TEXT.name: text} for text in texts]
    return Call(items, parameters, list, listed=isinstance(sent, list))


def _parameters(
    given: Mapping[str, Any], names: tuple[str, ...], fields: RequestFields
) -> dict[str, Any]:
    """Return those parameters of a request that are the mode's as well; refuse what it lacks."""
    sent = {name: given[name] for name in names if name in given}
    for name in sent.keys() - fields.parameters.keys():
        raise RequestError(422, f"this model has no {name}; leave it out")
    side = sent.get(SIDE)
    return {**sent, SIDE: side.lower()} if isinstance(side, str) else sent


def _flag(given: Mapping[str, Any], name: str, *, default: bool) -> bool:
    return Boolean(name, "").check(given.get(name, default))


def _sequence(sent: object) -> object:
    """Return the item of a text, or of one or two texts in a list."""
    if not isinstance(sent, list):
        return {TEXT.name: sent}
    if not 1 <= len(sent) <= 2 or any(isinstance(each, list) for each in sent):
        raise RequestError(422, SEQUENCES)
    return dict(zip((TEXT.name, "text_pair"), sent, strict=False))


def _label(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"score": entry["score"], "label": entry["label"]}


def _tokens(text: str, encoding: Encoding) -> Iterator[dict[str, Any]]:
    """Yield each token; special ones, which stand for no characters, have no place in the text."""
    facts = zip(
        encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True
    )
    for token_id, token, (start, stop), special in facts:
        if special:
            place: dict[str, Any] = {"text": token, "special": True, "start": None, "stop": None}
        else:
            place = {"text": text[start:stop], "special": False, "start": start, "stop": stop}
        yield {"id": token_id, **place}


def _facts(served: Served) -> dict[str, Any]:
    bundle, options = served.bundle, served.options
    types = {MODEL_TYPES[offer]: facts for offer, facts in served.offers.items()}
    name, revision = bundle.source.get("model_name") or "", bundle.source.get("revision")
    return {
        # Where a folder lies is nobody's business.
        "model_id": name if revision else PurePath(name).name,
        "model_sha": revision,
        "model_dtype": served.precision,
        "model_type": types or {bundle.mode: {}},
        "max_concurrent_requests": options.batch_size,
        "max_input_length": bundle.max_length,
        "max_batch_tokens": options.batch_size * bundle.max_length,
        "max_batch_requests": options.batch_size,
        "max_client_batch_size": options.max_client_batch,
        "auto_truncate": options.on_too_long == "truncate",
        "tokenization_workers": 1,
        "version": VERSION,
        "sha": None,
        "docker_label": None,
    }
