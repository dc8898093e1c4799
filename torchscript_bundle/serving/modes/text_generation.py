"""Text generation: a text -> the text that a model generates after it, or from it.

Requests and answers are those of Hugging Face's text-generation task.
Source: https://huggingface.co/docs/inference-providers/tasks/text-generation
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    NUMBER,
    STRING,
    JsonSchema,
    array,
    either,
    record,
    words,
)
from torchscript_bundle.serving.api.openai import messages
from torchscript_bundle.serving.api.sampling import (
    Settings,
    make_settings,
    sampling_fields,
    usable_defaults,
)
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.generation.answer import Answer, Piece
from torchscript_bundle.serving.modes.base import Mode, Query
from torchscript_bundle.serving.modes.mode_options import GenerationOptions

TOKEN = record({"id": COUNT, "text": STRING, "logprob": NUMBER, "special": {"type": "boolean"}})
ENDING = {
    "finish_reason": words(["length", "eos_token", "stop_sequence"]),
    "generated_tokens": COUNT,
    "seed": {"type": ["integer", "null"]},
}
DETAILS = record({**ENDING, "prefill": array({"not": {}}, maxItems=0), "tokens": array(TOKEN)})
NULL = {"type": "null"}
#: A token, and with the last one the whole text; or an error.
EVENT = either(
    record(
        {
            "index": COUNT,
            "token": TOKEN,
            "generated_text": either(STRING, NULL),
            "details": either(record({**ENDING, "input_length": COUNT}), NULL),
        }
    ),
    record({"error": STRING, "error_type": STRING}),
)


@dataclass(frozen=True)
class GenerationParameters:
    settings: Settings
    return_full_text: bool
    details: bool
    stream: bool


class TextGeneration(Mode):
    """Text generation, answered by `GenerationService`; `options` are the model's facts.

    `takes_messages`: a request may hold messages where the model has a chat template.
    """

    item_keys = fields.named(
        replace(fields.TEXT, description="The text that the answer follows.", example="Once upon"),
        fields.UNREAD_TARGET,
    )
    answer_schema = array(
        record({"generated_text": STRING}, {"details": DETAILS}), minItems=1, maxItems=1
    )
    event_schema: JsonSchema | None = EVENT
    takes_messages = True

    def __init__(self, bundle: Bundle) -> None:
        self.options = GenerationOptions.read(bundle.mode_options)
        self._defaults = usable_defaults(self.options.defaults)
        chats = self.options.chat_template is not None
        self.message_schema = messages.SCHEMA if chats else None
        self.parameters = {
            **sampling_fields(bundle.max_length - 1),
            **fields.named(
                fields.Boolean(
                    "return_full_text", "Whether the answer begins with the text.", default=False
                ),
                fields.Boolean("details", "Tell the tokens, and why it ended.", default=False),
                fields.Boolean("stream", "Send each token when it is there.", default=False),
            ),
        }

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        values = fields.read_values(self.parameters, parameters)
        wanted = GenerationParameters(
            settings=make_settings(values, self._defaults),
            return_full_text=values["return_full_text"],
            details=values["details"],
            stream=values["stream"],
        )
        return Query([text], wanted)

    def encode(self, query: Query, answer: Answer) -> Any:
        """Return the answer's JSON."""
        wanted: GenerationParameters = query.parameters
        details = {"details": _details(answer)} if wanted.details else {}
        return [{"generated_text": self.full_text(query, answer), **details}]

    def full_text(self, query: Query, answer: Answer) -> str:
        """Return the text of an answer, after its prompt where the request wants both."""
        wanted: GenerationParameters = query.parameters
        return f"{query.texts[0] if wanted.return_full_text else ''}{answer.text}"

    def plain_text(self, answer: Any) -> str:
        return str(answer[0]["generated_text"])


def describe_token(piece: Piece) -> dict[str, Any]:
    """Return a token as Hugging Face's task describes it."""
    token = {"id": piece.token, "text": piece.text}
    return {**token, "logprob": piece.logprob, "special": piece.special}


def _details(answer: Answer) -> dict[str, Any]:
    return {
        "finish_reason": answer.reason,
        "generated_tokens": len(answer.pieces),
        "seed": answer.settings.seed if answer.settings.do_sample else None,
        "prefill": [],
        "tokens": [describe_token(piece) for piece in answer.pieces],
    }
