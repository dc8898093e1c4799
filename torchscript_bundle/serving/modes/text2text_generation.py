"""Text-to-text generation: a text -> what an encoder-decoder writes about it.

Its translation, its summary, or what else the model was made for.
"""

from __future__ import annotations

from torchscript_bundle.serving.modes.writing import Writing


class Text2TextGeneration(Writing):
    """See the module."""
