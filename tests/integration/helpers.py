"""What answers of a server are compared with."""

from __future__ import annotations

from typing import Any

import pytest


def close(found: Any, expected: Any) -> bool:
    """Equal, numbers but for rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            close(found[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return bool(
        found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)
    )
