"""Compare answers with the right ones."""

from __future__ import annotations

import json
from typing import Any

#: Numbers differ by rounding between batches: so much, absolutely or relatively.
TOLERANCE = 1e-4


def alike(found: bytes, right: bytes) -> bool:
    """Return whether two bodies say the same: as JSON but for rounding, else byte by byte."""
    if found == right:
        return True
    try:
        return _close(json.loads(found), json.loads(right))
    except ValueError:
        return False


def _close(found: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return (
            isinstance(found, dict)
            and found.keys() == right.keys()
            and all(_close(found[key], value) for key, value in right.items())
        )
    if isinstance(right, list):
        return (
            isinstance(found, list) and len(found) == len(right) and all(map(_close, found, right))
        )
    if isinstance(right, float):
        allowed = TOLERANCE * max(1.0, abs(right))
        return isinstance(found, int | float) and abs(found - right) <= allowed
    if isinstance(right, str) and right[:1] in ("{", "["):
        return isinstance(found, str) and alike(found.encode(), right.encode())
    return type(found) is type(right) and bool(found == right)
