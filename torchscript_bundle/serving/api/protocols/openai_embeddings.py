"""OpenAI's embeddings: `{"input": ...}` -> `{"data": [{"embedding": ...}, ...]}`.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Sequence
from typing import Any

from torchscript_bundle.serving.api.fields import TEXT, Choice
from torchscript_bundle.serving.api.http import Client, HttpResponse
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    STRING,
    array,
    either,
    record,
    words,
)
from torchscript_bundle.serving.api.openai import error_form
from torchscript_bundle.serving.api.openai.error_form import in_openai_shape
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
from torchscript_bundle.serving.api.protocols.schemas import ref
from torchscript_bundle.serving.api.values import check_keys, check_model, without_nulls
from torchscript_bundle.serving.errors import RequestError

INPUT = "input"
#: Who asks, which does not change the answer.
USER = "user"
FORM = '{"model": "...", "input": "a text"}'
TOKEN_IDS = (
    f"{INPUT} holds token ids, which are another tokenizer's; send texts (LangChain's "
    "OpenAIEmbeddings does so with check_embedding_ctx_length=False)"
)


def _as_base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


#: `encoding_format` -> what writes a vector.
ENCODINGS: dict[str, Callable[[Sequence[float]], Any]] = {"float": list, "base64": _as_base64}
ENCODING = Choice(
    "encoding_format", "Numbers, or little-endian float32.", choices=[*ENCODINGS], default="float"
)


class OpenAIEmbeddings(RequestProtocol):
    """OpenAI's embeddings; the mode's own parameters may stand beside `input`."""

    keys = (INPUT,)
    offer: Offer | None = "embeddings"
    paths = ("embeddings", "v1/embeddings")
    failures: FailureForm | None = FailureForm("OpenAI", error_form.SCHEMA, error_form.STATUSES)

    def recognizes(self, payload: object, client: Client) -> bool:
        return isinstance(payload, dict) and INPUT in payload

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        check_offer(fields, "embeddings")
        if not isinstance(payload, dict):
            raise RequestError(422, f"send an object: {FORM}")
        check_keys(payload, (INPUT, "model", ENCODING.name, USER, *fields.parameters))
        given = without_nulls(payload)
        check_model(given.get("model", model_name), model_name)
        if INPUT not in given:
            raise RequestError(422, f"the request has no {INPUT}; send {FORM}")
        listed = isinstance(given[INPUT], list)
        texts = given[INPUT] if listed else [given[INPUT]]
        if listed and any(isinstance(each, int | list) for each in texts):
            raise RequestError(422, TOKEN_IDS)
        write = ENCODINGS[ENCODING.check(given.get(ENCODING.name, ENCODING.default))]

        def answer(vectors: list[Any]) -> dict[str, Any]:
            data = [
                {"object": "embedding", "index": at, "embedding": write(vector)}
                for at, vector in enumerate(vectors)
            ]
            return {"object": "list", "data": data, "model": model_name}

        items = [{TEXT.name: text} for text in texts]
        parameters = {name: given[name] for name in fields.parameters if name in given}
        return Call(items, parameters, answer, listed=listed, usage=token_usage)

    def adapt(self, response: HttpResponse) -> HttpResponse:
        return in_openai_shape(response)

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas | None:
        if "embeddings" not in fields.offers:
            return None
        text = TEXT.bounds()
        beside = {**schemas.members(fields.parameters), ENCODING.name: ENCODING.schema()}
        request = record(
            {INPUT: either(text, array(text, minItems=1, maxItems=most_items))},
            {
                **schemas.nullable({**beside, "model": STRING}),
                USER: {},
            },
        )
        entry = record(
            {
                "object": {"const": "embedding"},
                "index": COUNT,
                "embedding": either(ref("Answer"), STRING),
            }
        )
        reply = record(
            {
                "object": words(["list"]),
                "data": array(entry, minItems=1),
                "model": STRING,
                "usage": USAGE,
            }
        )
        example = {INPUT: [TEXT.example], ENCODING.name: "float"}
        return ProtocolSchemas("OpenAIEmbeddings", request, reply, {"OpenAI": example})
