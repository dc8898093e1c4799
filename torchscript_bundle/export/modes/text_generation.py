"""Text generation: a decoder-only model writes on where a text ends."""

from __future__ import annotations

from torchscript_bundle.export.generation.writer import Writer
from torchscript_bundle.export.tasks import TASKS


class TextGeneration(Writer):
    """See the module."""

    reads_source = TASKS["text_generation"].reads_source
