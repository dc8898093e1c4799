"""Text generation: a decoder continues a text, or writes from what an encoder read."""

from __future__ import annotations

from torchscript_bundle.export.generation.writer import Writer


class TextGeneration(Writer):
    artifacts_dir = "Text_generation_artifacts"
    auto_class = "AutoModelForCausalLM"
    reads_source = False


class Text2TextGeneration(Writer):
    artifacts_dir = "Text2text_generation_artifacts"
    auto_class = "AutoModelForSeq2SeqLM"
    reads_source = True
