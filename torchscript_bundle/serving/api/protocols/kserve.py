"""KServe's first protocol: `{"instances": [...]}` -> `{"predictions": [...]}`.

Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

from typing import Any

from torchscript_bundle.serving.api.fields import TEXT
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    Call,
    Form,
    asides,
    read_parameters,
)
from torchscript_bundle.serving.api.values import check_keys
from torchscript_bundle.serving.errors import RequestError

INSTANCES = "instances"
#: Where an instance of TorchServe's KServe examples holds its input.
DATA = "data"


def read(payload: dict[str, object], form: Form) -> Call:
    """See the module.

    Raises:
        RequestError: 422 for unknown keys, or instances that are no list.
    """
    check_keys(payload, (INSTANCES, PARAMETERS))
    instances = payload[INSTANCES]
    if not isinstance(instances, list):
        raise RequestError(422, "instances must be a list of inputs")
    items = [_unwrap(each, form) for each in instances]
    return Call(items, read_parameters([payload], form), _predictions)


def _unwrap(instance: object, form: Form) -> object:
    """Return the input of an instance such as `{"data": "...", "target": 0}`, with its target.

    Raises:
        RequestError: 422 for a key beside `data` that is not of this form.
    """
    if not isinstance(instance, dict) or DATA not in instance or DATA in form.item_keys:
        return instance
    beside = asides(form)
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
