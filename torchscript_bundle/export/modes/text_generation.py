"""Text generation: a decoder-only model writes on where a text ends."""

from __future__ import annotations

from torchscript_bundle.export.generation.writer import Writer


class TextGeneration(Writer):
    """See the module."""

    artifacts_dir = "Text_generation_artifacts"
    auto_class = "AutoModelForCausalLM"
    reads_source = False
