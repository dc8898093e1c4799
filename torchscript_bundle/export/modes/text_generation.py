"""Text generation: a decoder continues a text, or writes from what an encoder read."""

from __future__ import annotations

from torchscript_bundle.export.generation.writer import Writer


class TextGeneration(Writer):
    reads_source = False


class Text2TextGeneration(Writer):
    reads_source = True
