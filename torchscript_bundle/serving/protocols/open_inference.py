"""The Open Inference Protocol (KServe's second): named tensors in, named tensors out.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.protocols.call import PARAMETERS, Call, Form, read_parameters
from torchscript_bundle.serving.texts import check_keys, check_text

FORM = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]}'
#: The reply's only output.
OUTPUT = "answers"
#: The version that every archive has.
VERSION = "1.0"


def is_one(payload: dict[str, object]) -> bool:
    """Whether a request has this form: an input is an object with a datatype, or with a shape."""
    inputs = payload.get("inputs")
    return isinstance(inputs, list) and any(
        isinstance(each, dict) and ("datatype" in each or "shape" in each) for each in inputs
    )


def read(payload: dict[str, Any], form: Form, model_name: str) -> Call:
    """See the module. Several inputs are the members of one object each, by their names.

    Raises:
        RequestError: 422 for a wrong tensor; the message shows a right one.
    """
    check_keys(payload, ("id", "inputs", "outputs", PARAMETERS))
    identity = check_text(payload["id"], "the id") if "id" in payload else ""
    _check_outputs(payload.get("outputs", []))
    columns = dict(map(_tensor, payload["inputs"]))
    if len(columns) != len(payload["inputs"]):
        raise RequestError(422, "two inputs have the same name; give each its own")
    if len({len(data) for data in columns.values()}) != 1:
        raise RequestError(422, "the inputs have different numbers of elements; send equally many")
    holders = [payload, *payload["inputs"]]
    reply = partial(_reply, identity, model_name)
    return Call(_items(columns, form), read_parameters(holders, form), reply)


def _check_outputs(outputs: object) -> None:
    """Refuses a choice of outputs that the reply would not be."""
    if not isinstance(outputs, list) or any(each != {"name": OUTPUT} for each in outputs):
        raise RequestError(422, f'the only output is {{"name": "{OUTPUT}"}}; send that, or none')


def _items(columns: dict[str, list[object]], form: Form) -> list[object]:
    """An object for each row. A single input is the text, whatever name it goes by."""
    if columns.keys() - set(form.item_keys):
        if len(columns) > 1 or "text" not in form.item_keys:
            raise RequestError(422, f"the inputs of this model are {', '.join(form.item_keys)}")
        columns = {"text": next(iter(columns.values()))}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _tensor(value: object) -> tuple[str, list[object]]:
    """Name and elements of an input."""
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


def _holds(shape: list[object], count: int) -> bool:
    """Whether a tensor of this shape has `count` elements; done before a product grows large."""
    elements = 1
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= count:
            return False
        elements *= size
        if elements > count:
            return False
    return elements == count


def _reply(identity: str, model_name: str, answers: list[Any]) -> dict[str, Any]:
    """Each answer as JSON in one element: the protocol has no tensor of objects."""
    data = [json.dumps(answer, ensure_ascii=False, allow_nan=False) for answer in answers]
    output = {"name": OUTPUT, "shape": [len(data)], "datatype": "BYTES", "data": data}
    return {
        **({"id": identity} if identity else {}),
        "model_name": model_name,
        "model_version": VERSION,
        "outputs": [output],
    }
