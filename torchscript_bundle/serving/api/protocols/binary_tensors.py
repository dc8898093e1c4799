"""Binary tensors after the JSON of an Open Inference request -> the same request in JSON alone.

Clients send texts this way by default. Source: the protocol's binary tensor data extension,
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol
"""

from __future__ import annotations

from typing import Any

from torchscript_bundle.serving.api.protocols.call import PARAMETERS
from torchscript_bundle.serving.errors import RequestError

#: The parameter of an input that states its bytes.
SIZE = "binary_data_size"
#: Bytes of the size before each text, little endian.
LENGTH = 4


def join(payload: object, tail: bytes) -> object:
    """Move the tail's texts, in order, into the `data` of inputs with a `binary_data_size`."""
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
    """Return an input's bytes in the tail; None if the JSON holds its data."""
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
