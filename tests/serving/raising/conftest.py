"""Tiny writers, as the tests of generation have them."""

from tests.serving.generation.conftest import written

__all__ = ["written"]
