"""Binary tensors after the JSON of an Open Inference request -> the same request in JSON alone.

By default clients send texts this way. Source: the protocol's binary tensor data extension,
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol
"""

from __future__ import annotations

from typing import Any

from torchscript_bundle.serving.api.protocols.call import PARAMETERS
from torchscript_bundle.serving.errors import RequestError

#: The parameter of an input with the number of its bytes.
SIZE = "binary_data_size"
#: Bytes before each text with its size: little endian.
LENGTH = 4


def join(payload: object, tail: bytes) -> object:
    """Return the payload with the texts of the tail as the `data` of its inputs.

    The tail has the elements of each input with a `binary_data_size`, in the order of the inputs.

    Raises:
        RequestError: 400 for sizes that do not fit the bytes, or texts that are not UTF-8.
    """
    inputs = payload.get("inputs") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or not isinstance(inputs, list):
        raise _wrong_size()
    joined = []
    for tensor in inputs:
        size = _size(tensor)
        if size is None:
            joined.append(tensor)
            continue
        if not 0 <= size <= len(tail):
            raise _wrong_size()
        joined.append(_with_data(tensor, _texts(tail[:size])))
        tail = tail[size:]
    if tail:
        raise _wrong_size()
    return {**payload, "inputs": joined}


def _size(tensor: object) -> int | None:
    """Return the size of an input in the tail; None for an input with its data in the JSON."""
    parameters = tensor.get(PARAMETERS) if isinstance(tensor, dict) else None
    if not isinstance(parameters, dict) or SIZE not in parameters:
        return None
    size = parameters[SIZE]
    if not isinstance(size, int) or isinstance(size, bool):
        raise _wrong_size()
    return size


def _with_data(tensor: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    if "data" in tensor:
        raise RequestError(400, f"an input has data and {SIZE}; send one of them")
    parameters = {name: value for name, value in tensor[PARAMETERS].items() if name != SIZE}
    return {**tensor, PARAMETERS: parameters, "data": texts}


def _texts(content: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(content):
        start = at + LENGTH
        end = start + int.from_bytes(content[at:start], "little")
        if end > len(content):
            raise _wrong_size()
        try:
            texts.append(content[start:end].decode("utf-8"))
        except UnicodeDecodeError:
            raise RequestError(
                400, "an element of an input is not UTF-8; encode the text as UTF-8"
            ) from None
        at = end
    return texts


def _wrong_size() -> RequestError:
    return RequestError(
        400,
        f"the sizes of the binary tensors ({SIZE}, Inference-Header-Content-Length) are not those "
        "of the bytes; send texts as JSON, under data",
    )
