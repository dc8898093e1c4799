"""The Open Inference Protocol (KServe's second): named tensors in, named tensors out.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torchscript_bundle.serving.api.fields import TEXT, Boolean, Text
from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    STRING,
    JsonSchema,
    array,
    either,
    record,
)
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
from torchscript_bundle.serving.api.values import check_keys, check_text
from torchscript_bundle.serving.errors import RequestError

FORM = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]}'
NO_CONTENTS = (
    "there are no texts; put them into the contents.bytes_contents of an input (TorchServe drops "
    "raw_input_contents)"
)
#: Name of the reply's only output.
OUTPUT = "answers"
#: Clients send these to allow a binary reply; the reply is JSON nevertheless, as it shows itself.
#: Source: the protocol's binary tensor data extension.
BINARY_REPLY = "binary_data_output"
BINARY_OUTPUT = "binary_data"


class OpenInference(RequestProtocol):
    """The protocol as JSON; several inputs are the members of one object each."""

    predict_paths: Mapping[str, str] = {"kserve_infer": "/v2/models/{}/infer"}

    def recognizes(self, payload: object, client: Client) -> bool:
        inputs = payload.get("inputs") if isinstance(payload, dict) else None
        return isinstance(inputs, list) and any(
            isinstance(each, dict) and ("datatype" in each or "shape" in each) for each in inputs
        )

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        check_keys(payload, ("id", "model_name", "inputs", "outputs", PARAMETERS))
        identity = {"id": check_text(payload["id"], "the id")} if "id" in payload else {}
        if payload.get("model_name", model_name) != model_name:
            raise RequestError(422, "model_name is not the model of this address; send its name")
        _check_outputs(payload.get("outputs", []))
        items = _items([_tensor(each) for each in payload["inputs"]], fields)
        holders = [_without_binary_reply(payload), *payload["inputs"]]

        def answer(answers: list[Any]) -> dict[str, Any]:
            texts = [json.dumps(each, ensure_ascii=False, allow_nan=False) for each in answers]
            return {**identity, **reply(model_name, OUTPUT, texts)}

        return Call(items, read_parameters(holders, fields), answer)

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas | None:
        # Tensors hold strings, and an item may need more than texts.
        if not all(isinstance(each, Text) for each in fields.item_keys.values() if each.required):
            return None
        names = [key for key, field in fields.item_keys.items() if isinstance(field, Text)]
        nested = array({"type": "array"}, minItems=1)
        data = either(array({"type": "string"}, minItems=1, maxItems=most_items), nested)
        tensor = {"name": STRING, "shape": array(COUNT), **_bytes_schema(data)}
        alone = array(ref("Tensor"), minItems=1, maxItems=1)
        keyed = {"allOf": [ref("Tensor"), {"properties": {"name": {"enum": names}}}]}
        members = array(keyed, minItems=1, maxItems=len(names))
        request = record(
            {"inputs": either(alone, members) if TEXT.name in names else members},
            {
                "id": Text("id", "").bounds(),
                "outputs": array(record({"name": {"const": OUTPUT}})),
                PARAMETERS: ref("Parameters"),
            },
        )
        required: list[JsonSchema] = [
            either(given, {"properties": {"inputs": {"contains": given}}})
            for given in map(schemas.in_parameters, schemas.required_keys(fields.parameters))
        ]
        return ProtocolSchemas(
            "OpenInference",
            {**request, **schemas.all_of(required)},
            _reply_schema(),
            {"Open Inference": _example(fields)},
            {"Tensor": record(tensor, {PARAMETERS: ref("Parameters")})},
        )


class OpenInferenceGrpc(RequestProtocol):
    """ModelInfer as TorchServe passes it: base64 texts, no parameters; a reply needs an id."""

    def recognizes(self, payload: object, client: Client) -> bool:
        return client == "open_inference_grpc" and isinstance(payload, dict)

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        if not payload["inputs"]:
            raise RequestError(422, NO_CONTENTS)
        items = _items([_tensor(_decode_base64(each)) for each in payload["inputs"]], fields)

        def answer(answers: list[Any]) -> dict[str, Any]:
            # TorchServe itself writes each element as JSON.
            return {"id": payload["id"], **reply(model_name, OUTPUT, answers)}

        return Call(items, {}, answer)


def reply(model_name: str, output: str, elements: Sequence[Any]) -> dict[str, Any]:
    """Return a reply with one output; each answer is an element, as the protocol has no objects."""
    tensor = {"name": output, "shape": [len(elements)], "datatype": "BYTES", "data": [*elements]}
    return {"model_name": model_name, "model_version": VERSION, "outputs": [tensor]}


def _reply_schema() -> JsonSchema:
    data = _bytes_schema(array(STRING))
    output = record({"name": {"const": OUTPUT}, "shape": array(COUNT), **data})
    tensors = {"model_name": STRING, "model_version": STRING, "outputs": array(output, minItems=1)}
    return record(tensors, {"id": STRING})


def _bytes_schema(data: JsonSchema) -> dict[str, JsonSchema]:
    return {"datatype": {"const": "BYTES"}, "data": data}


def _example(fields: RequestFields) -> dict[str, Any]:
    tensors = [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [value]}
        for name, value in schemas.examples(fields.item_keys).items()
    ]
    return {"id": "7", "inputs": tensors, **schemas.example_parameters(fields)}


def _check_outputs(outputs: object) -> None:
    if not isinstance(outputs, list) or not all(map(_is_output, outputs)):
        raise RequestError(422, f'the only output is {{"name": "{OUTPUT}"}}; send that, or none')


def _is_output(value: object) -> bool:
    if not isinstance(value, dict) or value.get("name") != OUTPUT:
        return False
    parameters = value.get(PARAMETERS, {})
    return (
        value.keys() <= {"name", PARAMETERS}
        and isinstance(parameters, dict)
        and parameters.keys() <= {BINARY_OUTPUT}
        and isinstance(parameters.get(BINARY_OUTPUT, False), bool)
    )


def _without_binary_reply(payload: dict[str, Any]) -> dict[str, Any]:
    parameters = payload.get(PARAMETERS)
    if not isinstance(parameters, dict) or BINARY_REPLY not in parameters:
        return payload
    Boolean(BINARY_REPLY, "Whether the reply may be binary.").check(parameters[BINARY_REPLY])
    left = {name: value for name, value in parameters.items() if name != BINARY_REPLY}
    return {PARAMETERS: left}


def _items(tensors: Sequence[tuple[str, list[object]]], fields: RequestFields) -> list[object]:
    """Return an object for each row; a single input is the text, whatever its name."""
    columns = dict(tensors)
    if len(columns) != len(tensors):
        raise RequestError(422, "two inputs have the same name; give each its own")
    if len({len(data) for data in columns.values()}) != 1:
        raise RequestError(422, "the inputs have different numbers of elements; send equally many")
    if columns.keys() - set(fields.item_keys):
        if len(columns) > 1 or TEXT.name not in fields.item_keys:
            names = ", ".join(text_keys(fields))
            raise RequestError(422, f"the inputs of this model are {names}")
        columns = {TEXT.name: next(iter(columns.values()))}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _tensor(value: object) -> tuple[str, list[object]]:
    if not isinstance(value, dict):
        raise RequestError(422, f"an input is no object; send {FORM}")
    check_keys(value, ("name", "shape", "datatype", "data", PARAMETERS), where="inputs.")
    name, shape, data = value.get("name"), value.get("shape"), value.get("data")
    if value.get("datatype") != "BYTES":
        raise RequestError(422, f"this model takes texts, datatype BYTES; send {FORM}")
    if not isinstance(name, str) or not isinstance(data, list) or not isinstance(shape, list):
        raise RequestError(422, f"an input lacks its name, shape or data; send {FORM}")
    while any(isinstance(each, list) for each in data):
        if not all(isinstance(each, list) for each in data):
            raise RequestError(422, "data is partly nested; send a flat list")
        data = [each for row in data for each in row]
    if not _holds(shape, len(data)):
        raise RequestError(422, f"the shape of an input is not that of its data; send {FORM}")
    return name, data


def _decode_base64(tensor: dict[str, Any]) -> dict[str, Any]:
    if tensor["datatype"] != "BYTES":
        return tensor  # for `_tensor` to refuse
    if not tensor["data"]:
        raise RequestError(422, NO_CONTENTS)
    try:
        texts = [base64.b64decode(each).decode("utf-8") for each in tensor["data"]]
    except UnicodeDecodeError:
        raise RequestError(
            400, "an element of an input is not UTF-8; encode the text as UTF-8"
        ) from None
    return {**tensor, "data": texts}


def _holds(shape: list[object], count: int) -> bool:
    """Return whether the shape has `count` elements; stop before the product grows large."""
    elements = 1
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= count:
            return False
        elements *= size
        if elements > count:
            return False
    return elements == count
