"""KServe's first protocol: `{"instances": [...]}` -> `{"predictions": [...]}`.

Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

from typing import Any

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.protocols.call import PARAMETERS, Call, Form, read_parameters
from torchscript_bundle.serving.texts import check_keys

INSTANCES = "instances"


def read(payload: dict[str, object], form: Form) -> Call:
    """See the module.

    Raises:
        RequestError: 422 for unknown keys, or instances that are no list.
    """
    check_keys(payload, (INSTANCES, PARAMETERS))
    instances = payload[INSTANCES]
    if not isinstance(instances, list):
        raise RequestError(422, "instances must be a list of inputs")
    return Call(instances, read_parameters([payload], form), _predictions)


def _predictions(answers: list[Any]) -> dict[str, Any]:
    return {"predictions": answers}
