"""Text generation: a text -> what a decoder-only model writes after it."""

from __future__ import annotations

from torchscript_bundle.serving.modes.writing import Writing


class TextGeneration(Writing):
    """See the module."""
