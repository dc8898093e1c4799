"""What the modes have in common that write texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    NUMBER,
    STRING,
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
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.generation.answer import Answer, Piece
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.text.tokenizer import Truncation

#: Facts of the artifact, see docs/artifact.md.
FACTS = (
    *("eos_ids", "pad_id", "start_id", "first_id", "last_id", "max_source_length", "defaults"),
    *("chat_template", "special_tokens", "clean_up_spaces", "default_max_new_tokens"),
)
TOKEN = record({"id": COUNT, "text": STRING, "logprob": NUMBER, "special": {"type": "boolean"}})
ENDING = {
    "finish_reason": words(["length", "eos_token", "stop_sequence"]),
    "generated_tokens": COUNT,
    "seed": {"type": ["integer", "null"]},
}
DETAILS = record(
    {
        **ENDING,
        "prefill": array({"not": {}}, maxItems=0),
        "tokens": array(TOKEN),
    }
)
NULL = {"type": "null"}
#: A token, and with the last one the whole text; or what went wrong on the way.
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
class Wanted:
    """What a request asks for beside a text.

    Attributes:
        settings: how the answer is written.
        return_full_text: whether the prompt is in it.
        details: whether its tokens are told.
        stream: whether it is sent token by token.
    """

    settings: Settings
    return_full_text: bool
    details: bool
    stream: bool


@dataclass(frozen=True)
class Written(Computed):
    """A row with the answer that was written to it; `outputs` are its tokens, int64 `[new]`."""

    answer: Answer


class Writing:
    """A mode whose answers `GenerationService` writes. Requests and answers are those of Hugging
    Face's text-generation task.

    Source: https://huggingface.co/docs/inference-providers/tasks/text-generation
    """

    item_keys = fields.named(
        replace(fields.TEXT, description="The text that the answer follows.", example="Once upon"),
        fields.UNREAD_TARGET,
    )
    answer_schema = array(
        record({"generated_text": STRING}, {"details": DETAILS}), minItems=1, maxItems=1
    )
    truncation = Truncation()
    event_schema = EVENT

    def __init__(self, bundle: Bundle) -> None:
        missing = [name for name in FACTS if name not in bundle.mode_options]
        if missing:
            raise ArtifactError(f"bundle.json: mode_options lacks {', '.join(missing)}; {REMAKE}")
        self._defaults: dict[str, Any] = usable_defaults(bundle.mode_options["defaults"])
        chats = bundle.mode_options["chat_template"] is not None
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
        settings = make_settings(values, self._defaults)
        rest = (values[name] for name in ("return_full_text", "details", "stream"))
        return Query([text], Wanted(settings, *rest))

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[written]] = computed
        assert isinstance(written, Written)
        wanted: Wanted = query.options
        [text] = query.texts
        prompt = text if wanted.return_full_text else ""
        details = {"details": _details(written.answer)} if wanted.details else {}
        return [{"generated_text": f"{prompt}{written.answer.text}", **details}]

    def plain_text(self, answer: Any) -> str:
        """The text alone."""
        return str(answer[0]["generated_text"])


def describe_token(piece: Piece) -> dict[str, Any]:
    """A token in Hugging Face's words."""
    return {
        "id": piece.token,
        "text": piece.text,
        "logprob": piece.logprob,
        "special": piece.special,
    }


def _details(answer: Answer) -> dict[str, Any]:
    return {
        "finish_reason": answer.reason,
        "generated_tokens": len(answer.pieces),
        "seed": answer.settings.seed if answer.settings.do_sample else None,
        "prefill": [],
        "tokens": [describe_token(piece) for piece in answer.pieces],
    }


class TextGeneration(Writing):
    """See the module."""


class Text2TextGeneration(Writing):
    """See the module."""
