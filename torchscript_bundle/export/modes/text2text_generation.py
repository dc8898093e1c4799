"""Text-to-text generation: an encoder reads a text, a decoder writes another."""

from __future__ import annotations

from torchscript_bundle.export.generation.writer import Writer


class Text2TextGeneration(Writer):
    """See the module."""

    artifacts_dir = "Text2text_generation_artifacts"
    auto_class = "AutoModelForSeq2SeqLM"
    reads_source = True
