"""What does not take text alone, and why."""

from __future__ import annotations

#: model_type -> what it needs besides a text.
OUT_OF_SCOPE: dict[str, str] = {
    "bros": "needs the box of each word",
    "gemma3n": "its image encoder needs a package of its own (timm); see gemma3n_text",
    "gemma4_assistant": "drafts for another model, whose hidden states it needs",
    "gemma4_unified_assistant": "drafts for another model, whose hidden states it needs",
    "layoutlmv2": "needs the image of the page",
    "lxmert": "needs features of an image",
    "musicgen": "generates audio: its tokens are codes of sounds, in several streams",
    "musicgen_melody": "generates audio: its tokens are codes of sounds, in several streams",
    "tapas": "needs the rows and columns of a table",
}
