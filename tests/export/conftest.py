"""The local hub."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hub import Hub, serve


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hugging Face Hub on a free port, empty."""
    with serve() as hub:
        yield hub
