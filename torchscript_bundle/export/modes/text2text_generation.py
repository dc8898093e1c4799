"""Text-to-text generation: an encoder reads a text, a decoder writes another."""

from __future__ import annotations

from torchscript_bundle.export.generation.writer import Writer
from torchscript_bundle.export.tasks import TASKS


class Text2TextGeneration(Writer):
    """See the module."""

    reads_source = TASKS["text2text_generation"].reads_source
