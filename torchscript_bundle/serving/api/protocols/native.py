"""The protocol of the TorchServe example and of Hugging Face's inference endpoints.

A text, an object or a list of either; alone, or under `inputs` or `data` beside `parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchscript_bundle.serving.api.fields import (
    TEXT,
    Boolean,
    named,
    read_values,
    without_unread,
)
from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.json_schema import JsonSchema, array, either
from torchscript_bundle.serving.api.protocols import schemas
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    VERSION,
    Call,
    ProtocolSchemas,
    RequestFields,
    RequestProtocol,
    read_parameters,
    text_keys,
)
from torchscript_bundle.serving.api.protocols.schemas import ref
from torchscript_bundle.serving.api.values import check_keys
from torchscript_bundle.serving.errors import RequestError

#: What Hugging Face's inference API may be told about how, not what, it answers; nothing here.
OPTIONS = "options"
OPTION_FIELDS = named(
    *(Boolean(name, "Ignored.") for name in ("wait_for_model", "use_cache", "use_gpu"))
)
#: Keys of the object around items.
WRAPPERS = ("inputs", "data")


class Native(RequestProtocol):
    """Reads everything that no other protocol recognizes, so its errors describe this form."""

    has_answer_form = True
    keys = WRAPPERS
    predict_paths: Mapping[str, str] = {
        "predict": "/predictions/{}",
        "predict_version": f"/predictions/{{}}/{VERSION}",
    }
    explain_paths: Mapping[str, str] = {"explain": "/explanations/{}"}

    def recognizes(self, payload: object, client: Client) -> bool:
        return True

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        if not isinstance(payload, dict):
            return _call(payload, {})
        payload = without_unread(fields.item_keys, payload)
        item_keys = text_keys(fields)
        check_keys(payload, (*item_keys, *WRAPPERS, *fields.parameters, PARAMETERS, OPTIONS))
        _check_options(payload.get(OPTIONS, {}))
        beside = {key: payload[key] for key in fields.parameters if key in payload}
        parameters = read_parameters([payload, {PARAMETERS: beside}], fields)
        item = {key: payload[key] for key in item_keys if key in payload}
        wrapped = [key for key in WRAPPERS if key in payload]
        if len(wrapped) + bool(item) != 1:
            keys = ", ".join(f'"{key}"' for key in item_keys)
            raise RequestError(
                422,
                f'send one input: an object with {keys}, or the same under "inputs" or "data"',
            )
        if wrapped:
            return _call(payload[wrapped[0]], parameters)
        # {"text": ["one", "two"]} is as old as the TorchServe example.
        if list(item) == [TEXT.name]:
            return _call(item[TEXT.name], parameters)
        return Call([item], parameters, _first, listed=False)

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas:
        beside = {
            **schemas.beside_text(fields),
            **schemas.members(fields.parameters),
            PARAMETERS: ref("Parameters"),
            OPTIONS: schemas.optional(schemas.members(OPTION_FIELDS)),
        }
        # A required parameter stands beside the item or under `parameters`.
        required: list[JsonSchema] = [
            either({"required": [name]}, schemas.in_parameters(name))
            for name in schemas.required_keys(fields.parameters)
        ]
        wrapped = {name: either(ref("Item"), ref("Items")) for name in WRAPPERS}
        bare = [] if required else [ref("Items")]
        if TEXT.name in fields.item_keys:
            wrapped[TEXT.name] = ref("Items")
            bare = bare and [fields.item_keys[TEXT.name].bounds(), *bare]
        item = {
            **schemas.optional({**schemas.members(fields.item_keys), **beside}),
            **schemas.requires(fields.item_keys, required),
        }
        wrappers = (
            {**schemas.optional({name: value, **beside}), "required": [name]}
            for name, value in wrapped.items()
        )
        conditions = schemas.all_of(required)
        example = schemas.examples(fields.item_keys)
        return ProtocolSchemas(
            "Native",
            either(*bare, item, *({**each, **conditions} for each in wrappers)),
            either(ref("Answer"), array(ref("Answer"), minItems=1)),
            {
                "an input": {**example, **schemas.examples(fields.parameters)},
                "a list": {"inputs": [example, example], **schemas.example_parameters(fields)},
            },
        )


class InferenceClient(RequestProtocol):
    """Requests of huggingface_hub's InferenceClient: native ones, but with answers that it parses.

    The native protocol follows Hugging Face's pipelines. For some tasks its endpoints answer
    differently: the mode adapts the call.
    Source: https://github.com/huggingface/huggingface_hub/tree/main/src/huggingface_hub/inference
    """

    def recognizes(self, payload: object, client: Client) -> bool:
        return client == "huggingface_hub" and isinstance(payload, dict) and "inputs" in payload

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        return fields.for_inference_client(Native().read(payload, fields, model_name))


def _check_options(options: object) -> None:
    if not isinstance(options, dict):
        raise RequestError(422, f"{OPTIONS} must be an object, with {' or '.join(OPTION_FIELDS)}")
    check_keys(options, OPTION_FIELDS, where=f"{OPTIONS}.")
    read_values(OPTION_FIELDS, options)


def _call(value: object, parameters: dict[str, object]) -> Call:
    if isinstance(value, list):
        return Call(value, parameters, list)
    return Call([value], parameters, _first, listed=False)


def _first(answers: list[Any]) -> Any:
    return answers[0]
