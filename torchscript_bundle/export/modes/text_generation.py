"""Text generation: a decoder continues a text, or writes from what an encoder read."""

from __future__ import annotations

from torchscript_bundle.export.generation.writer import Writer
from torchscript_bundle.export.tasks import TASKS


class TextGeneration(Writer):
    reads_source = TASKS["text_generation"].reads_source


class Text2TextGeneration(Writer):
    reads_source = TASKS["text2text_generation"].reads_source
