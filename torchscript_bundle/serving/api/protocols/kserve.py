"""KServe's first protocol: `{"instances": [...]}` -> `{"predictions": [...]}`.

Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchscript_bundle.serving.api.fields import TEXT
from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.json_schema import array, either, record
from torchscript_bundle.serving.api.protocols import schemas
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    Call,
    ProtocolSchemas,
    RequestFields,
    RequestProtocol,
    read_parameters,
    target_keys,
)
from torchscript_bundle.serving.api.protocols.schemas import ref
from torchscript_bundle.serving.api.values import check_keys
from torchscript_bundle.serving.errors import RequestError

INSTANCES = "instances"
#: Where an instance of TorchServe's KServe examples holds its input.
DATA = "data"


class KServe(RequestProtocol):
    """KServe's first protocol."""

    keys = (INSTANCES,)
    predict_paths: Mapping[str, str] = {"kserve_predict": "/v1/models/{}:predict"}
    explain_paths: Mapping[str, str] = {"kserve_explain": "/v1/models/{}:explain"}

    def recognizes(self, payload: object, client: Client) -> bool:
        return isinstance(payload, dict) and INSTANCES in payload

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        check_keys(payload, (INSTANCES, PARAMETERS))
        instances = payload[INSTANCES]
        if not isinstance(instances, list):
            raise RequestError(422, "instances must be a list of inputs")
        items = [_unwrap(each, fields) for each in instances]
        return Call(items, read_parameters([payload], fields), _predictions)

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas:
        members = {DATA: ref("Item"), **schemas.beside_text(fields)}
        wrapped = {**schemas.optional(members), "required": [DATA]}
        instances = array(either(ref("Item"), wrapped), minItems=1, maxItems=most_items)
        required = schemas.required_keys(fields.parameters)
        parameters = {**ref("Parameters"), **({"required": required} if required else {})}
        request = {
            **schemas.optional({INSTANCES: instances, PARAMETERS: parameters}),
            "required": [INSTANCES, *([PARAMETERS] if required else [])],
        }
        item = schemas.examples(fields.item_keys)
        example = {INSTANCES: [item], **schemas.example_parameters(fields)}
        reply = record({"predictions": array(ref("Answer"), minItems=1)})
        return ProtocolSchemas("KServe", request, reply, {"KServe": example})


def _unwrap(instance: object, fields: RequestFields) -> object:
    """Return the item of an instance such as `{"data": "...", "target": 0}`, with its target."""
    if not isinstance(instance, dict) or DATA not in instance or DATA in fields.item_keys:
        return instance
    beside = target_keys(fields)
    check_keys(instance, (DATA, *sorted(beside)), where=f"{INSTANCES}.")
    inner = instance[DATA]
    given = {key: instance[key] for key in beside if key in instance}
    if not given:
        return inner
    item = inner if isinstance(inner, dict) else {TEXT.name: inner}
    if item.keys() & given.keys():
        raise RequestError(422, f"{' and '.join(sorted(given))} is given twice; send it once")
    return {**item, **given}


def _predictions(answers: list[Any]) -> dict[str, Any]:
    return {"predictions": answers}
