"""Tiny writers, each made once a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.serving.generation.helpers import Written, make


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """A name of `helpers.TOKENIZERS` -> its model and artifact; do not write into it."""
    root = tmp_path_factory.mktemp("writers")
    return cache(lambda name: make(name, root / name))
