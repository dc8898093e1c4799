"""The modes of TorchServe's Hugging Face example: our requests, answered with the example's bytes.

Its handler returned Python values, and TorchServe sent a string as it is and all else as indented
JSON, without a content type. Sources: pytorch/serve v0.12.0,
examples/Huggingface_Transformers/Transformer_handler_generalized.py, and create_predict_response
in ts/protocol/otf_message_handler.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.api.json_schema import (
    NUMBER,
    STRING,
    JsonSchema,
    array,
    record,
    words,
)
from torchscript_bundle.serving.api.sampling import make_settings
from torchscript_bundle.serving.artifact import EXAMPLE_LAYER, Bundle
from torchscript_bundle.serving.engine.padding import pad
from torchscript_bundle.serving.explanations.target import Attribution, Target
from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Mode, Query
from torchscript_bundle.serving.modes.mode_options import ExampleSpelling
from torchscript_bundle.serving.modes.question_answering import QuestionAnswering
from torchscript_bundle.serving.modes.sequence_classification import SequenceClassification
from torchscript_bundle.serving.modes.text_generation import GenerationParameters, TextGeneration
from torchscript_bundle.serving.modes.token_classification import TokenClassification
from torchscript_bundle.serving.text.detokenizer import clean_up
from torchscript_bundle.serving.text.tokenizer import Row, Truncation

#: Without a content type, a browser would guess one from the text.
HEADERS = {"X-Content-Type-Options": "nosniff"}
#: The space before a word, as byte-level tokenizers spell it.
SPACE = "\u0120"
#: The arguments that the example gave to `generate`.
SAMPLING = {"do_sample": True, "top_k": 60, "top_p": 0.95}


class Example(Mode):
    """Responses as TorchServe sent them, whatever the client accepts."""

    def respond(
        self, request: HttpRequest, answers: list[Any], reply: Callable[[list[Any]], Any]
    ) -> HttpResponse:
        return self.write(reply(answers))

    def write(self, value: Any) -> HttpResponse:
        text = value if isinstance(value, str) else json.dumps(value, indent=2, allow_nan=False)
        return HttpResponse(200, "", text.encode("utf-8"), HEADERS)

    def plain_text(self, answer: Any) -> str:
        return str(answer)


class ExampleForward(Example, ForwardMode):
    """Explanations of the example: the tokens of a text, and attributions of unit norm."""

    explained_layer = EXAMPLE_LAYER

    @property
    def explained_schema(self) -> JsonSchema:
        return record({"words": array(STRING), "importances": array(NUMBER), "delta": NUMBER})

    def explain(
        self,
        query: Query,
        computed: Sequence[Sequence[Computed]],
        explained: Sequence[tuple[Target, Attribution]],
    ) -> Any:
        [(target, found)] = explained
        return {
            "words": _words(target.row),
            "importances": _normalized(found.importances),
            "delta": found.delta,
        }


class ExamplePadded(ExampleForward):
    """Rows are padded to `max_length`: the example's answers count padding among the tokens."""

    _bundle: Bundle

    def complete(self, row: Row) -> Row:
        length, padding = self._bundle.max_length, self._bundle.padding
        return replace(
            row,
            input_ids=pad(row.input_ids, length, padding.token_id, padding.side),
            type_ids=pad(row.type_ids, length, padding.type_id, padding.side),
            padding=length - len(row),
        )


class ExampleSequenceClassification(ExampleForward, SequenceClassification):
    """The best label."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.item_keys = fields.named(fields.TEXT, fields.UNREAD_TARGET)
        self.parameters = {}
        self.answer_schema = words(bundle.labels)

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        return Query([fields.read_item(self.item_keys, item)["text"]])

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        """Accept every text: the example cut those that were too long."""

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        return self._labels[int(text.outputs[0].argmax())]


class ExampleTokenClassification(ExamplePadded, TokenClassification):
    """Each token with its label, special tokens and padding included.

    The tokens are those of the decoded row, tokenized again.
    """

    truncation = Truncation()

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._bundle = bundle
        self._clean_up = ExampleSpelling.read(bundle.mode_options).example_cleans_up_spaces
        pair = {"type": "array", "prefixItems": [STRING, words(bundle.labels)]}
        self.answer_schema = array({**pair, "minItems": 2, "maxItems": 2})

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        super().set_tokenizer(tokenizer)
        self.parameters = {}
        self._whole = Tokenizer.from_str(tokenizer.to_str())
        self._whole.no_truncation()

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        return Query([fields.read_item(self.item_keys, item)["text"]])

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        """Take any text: a long one is truncated."""

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        spelled = self._whole.decode(text.row.input_ids, skip_special_tokens=False)
        if self._clean_up:
            spelled = clean_up(spelled)
        tokens = self._whole.encode(spelled, add_special_tokens=False).tokens
        best = text.outputs[0].argmax(dim=-1).tolist()
        return [[token, self._labels[at]] for token, at in zip(tokens, best, strict=False)]


class ExampleQuestionAnswering(ExamplePadded, QuestionAnswering):
    """The tokens from the best start to the best end, wherever they are, as a text.

    The example gave its models no token types.
    """

    answer_schema = STRING
    typed = False

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._bundle = bundle
        self.parameters = {}
        self.truncation = Truncation()
        self._names = ("question", "context")

    @property
    def explained_schema(self) -> JsonSchema:
        importances = {f"importances_answer_{name}": array(NUMBER) for name in ("start", "end")}
        deltas = {f"delta_{name}": NUMBER for name in ("start", "end")}
        return record({"words": array(STRING), **importances, **deltas})

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        read = fields.read_item(self.item_keys, item)
        return Query([(read["question"], read["context"])])

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        start, end = (int(scores.argmax()) for scores in text.outputs)
        ids = text.row.input_ids[start : end + 1]
        tokens = [str(self._tokenizer.id_to_token(at)) for at in ids]
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the start and end logits of the requested token, or of the answer's edges."""
        [[text]] = computed
        sent = dict(zip(self._names, query.texts[0], strict=True))
        token: int | None = wanted["target"]
        if token is not None:
            self._check_token_index(token, [text])
        places = (int(scores.argmax()) if token is None else token for scores in text.outputs)
        return [
            Target(name, text.row, sent, output, (place,), per_token=True)
            for output, (name, place) in enumerate(zip(("start", "end"), places, strict=True))
        ]

    def explain(
        self,
        query: Query,
        computed: Sequence[Sequence[Computed]],
        explained: Sequence[tuple[Target, Attribution]],
    ) -> Any:
        names = [target.name for target, _ in explained]
        found = [attribution for _, attribution in explained]
        return {
            "words": _words(explained[0][0].row),
            **{
                f"importances_answer_{name}": _normalized(each.importances)
                for name, each in zip(names, found, strict=True)
            },
            **{f"delta_{name}": each.delta for name, each in zip(names, found, strict=True)},
        }


class ExampleTextGeneration(Example, TextGeneration):
    """The text and what follows it, drawn as the example drew unless a request says otherwise."""

    answer_schema = STRING
    event_schema = None
    takes_messages = False

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._clean_up = ExampleSpelling.read(bundle.mode_options).example_cleans_up_spaces
        self._defaults = {**self._defaults, **SAMPLING}
        self.message_schema = None
        left_out = ("return_full_text", "details", "stream", "stop")
        self.parameters = {
            name: field for name, field in self.parameters.items() if name not in left_out
        }

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        values = {"stop": None, **fields.read_values(self.parameters, parameters)}
        settings = make_settings(values, self._defaults)
        wanted = GenerationParameters(settings, return_full_text=True, details=False, stream=False)
        return Query([text], wanted)

    def encode(self, query: Query, answer: Answer) -> Any:
        tokens = [*answer.prompt, *(piece.token for piece in answer.pieces)]
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        return clean_up(text) if self._clean_up else text


def _words(row: Row) -> list[str]:
    assert row.encoding is not None
    return [token.replace(SPACE, "") for token in row.encoding.tokens]


def _normalized(importances: Sequence[float]) -> list[float]:
    """Return importances of unit norm; all 0 stay 0, which the example divided by 0."""
    values = torch.tensor(importances)
    norm = torch.linalg.vector_norm(values)
    normalized: list[float] = (values / norm if norm > 0 else values).tolist()
    return normalized
