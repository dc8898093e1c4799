"""The native form as huggingface_hub's InferenceClient sends it, and the answers that it parses.

Requests are the native ones. Answers are those of Hugging Face's inference endpoints, which for
some tasks are not those of the pipelines that the native form follows; the mode knows which.
Source: https://github.com/huggingface/huggingface_hub/tree/main/src/huggingface_hub/inference
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torchscript_bundle.serving.api.protocols import native
from torchscript_bundle.serving.api.protocols.call import Call, Form
from torchscript_bundle.serving.modes.base import AnswersInferenceClient


def read(payload: dict[str, object], form: Form) -> Call:
    """See the module.

    Raises:
        RequestError: as the native form does.
    """
    call = native.read(payload, form)
    if not isinstance(form, AnswersInferenceClient):
        return call

    def reply(answers: list[Any]) -> Any:
        return form.inference_client_reply(answers, call.listed)

    parameters = {**form.inference_client_defaults, **call.parameters}
    return replace(call, parameters=parameters, reply=reply)
