"""The native form as huggingface_hub's InferenceClient sends it, and the answers that it parses.

Requests are the native ones. Answers are those of Hugging Face's inference endpoints, which for
some tasks are not those of the pipelines that the native form follows; the mode knows which.
Source: https://github.com/huggingface/huggingface_hub/tree/main/src/huggingface_hub/inference
"""

from __future__ import annotations

from torchscript_bundle.serving.api.protocols import native
from torchscript_bundle.serving.api.protocols.call import Call, Form


def read(payload: dict[str, object], form: Form) -> Call:
    """Read a call; raises as the native form does."""
    return form.for_inference_client(native.read(payload, form))
