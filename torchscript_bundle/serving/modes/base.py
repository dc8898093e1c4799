"""The base of modes, at serve time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tokenizers import Tokenizer

from torchscript_bundle.serving.api.fields import Boolean, Choice, Field, read_values
from torchscript_bundle.serving.api.http import (
    TEXT,
    HttpRequest,
    HttpResponse,
    json_response,
    prefers_plain_text,
)
from torchscript_bundle.serving.api.json_schema import JsonSchema, array, record
from torchscript_bundle.serving.artifact import TOKEN_LAYER, Bundle
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.description import EXPLANATION, describe
from torchscript_bundle.serving.explanations.target import Attribution, Target
from torchscript_bundle.serving.text.tokenizer import Row, Side, TextInput, Truncation

if TYPE_CHECKING:
    from torchscript_bundle.serving.api.protocols.call import Call, Offer

#: What a request may say of a text that is too long, where a mode neither splits it into windows
#: nor needs its other end; `CutParameters` has the values.
CUT_FIELDS = (
    Boolean("truncate", "Cut a text that is too long, or refuse it.", default=True),
    Choice(
        "truncation_direction",
        "The end that is cut; by default the model's own.",
        choices=("left", "right"),
    ),
)


class Parameters:
    """Base of a mode's typed parameters: a dataclass with an attribute for each field."""

    @classmethod
    def read(cls, fields: Mapping[str, Field], sent: Mapping[str, object]) -> Self:
        """Check the values that a request sets, and take defaults for the rest."""
        return cls(**read_values(fields, sent))


@dataclass(frozen=True, kw_only=True)
class CutParameters(Parameters):
    """The parameters of a mode with `CUT_FIELDS`."""

    truncate: bool
    truncation_direction: Side | None


@dataclass(frozen=True)
class Query:
    """One decoded item; `encode` gets the outputs of `texts` in order.

    `parameters` are the rest that the mode needs; windows of a long text share `stride` tokens. A
    text that is too long is cut at `cut_side`, by default the model's own; a pooling leaves out the
    first `unpooled` tokens of each text.
    """

    texts: Sequence[TextInput]
    parameters: Any = None
    stride: int = 0
    cut_side: Side | None = None
    unpooled: int = 0


@dataclass(frozen=True)
class Computed:
    """One row (a text, or a window of it) with the module's outputs for it."""

    row: Row
    outputs: Outputs


class Mode(ABC):
    """A task's requests and answers.

    Attributes:
        item_keys: members of an item; with `text` among them, an item may also be a string.
        parameters: what a request may set.
        offers: what APIs of others may ask for, with the facts that they tell about it. Embeddings
            take texts, and the parameters `normalize` and `dimensions`; ranking takes items with
            `query` and `passages`, and has `top_n`, `return_documents` and `raw_scores`; labels
            take texts and pairs, and have `top_k` and `raw_scores`; sparse embeddings take texts.
        target_parameters: name the target of an explanation; empty without explanations.
        answer_schema: JSON Schema of the answer to an item.
        event_schema: JSON Schema of an event in a stream; None where answers are not streamed.
        message_schema: JSON Schema of chat messages; None where the model takes none.
    """

    item_keys: Mapping[str, Field]
    parameters: Mapping[str, Field]
    offers: Mapping[Offer, Mapping[str, object]] = {}
    target_parameters: Mapping[str, Field] = {}
    answer_schema: JsonSchema
    event_schema: JsonSchema | None = None
    message_schema: JsonSchema | None = None

    @abstractmethod
    def __init__(self, bundle: Bundle) -> None:
        """Read the artifact's facts; raise ArtifactError for a missing or wrong one."""

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Keep the artifact's tokenizer, before the first request."""
        self._tokenizer = tokenizer

    @abstractmethod
    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        """Read one item and the parameters of a request, of which only the names are checked."""

    @abstractmethod
    def plain_text(self, answer: Any) -> str:
        """Return an answer in as few words as possible, for clients that accept text/plain."""

    def for_inference_client(self, call: Call) -> Call:
        """Adapt a call of Hugging Face's InferenceClient to the answers that it parses."""
        return call

    def respond(
        self, request: HttpRequest, answers: list[Any], reply: Callable[[list[Any]], Any]
    ) -> HttpResponse:
        """Return the answers to a request's items: a line each if it prefers text, else a reply."""
        if prefers_plain_text(request.accept):
            lines = "\n".join(map(self.plain_text, answers))
            return HttpResponse(200, TEXT, lines.encode("utf-8"))
        return self.write(reply(answers))

    def write(self, value: Any) -> HttpResponse:
        """Return the response with a reply."""
        return json_response(200, value)


class ForwardMode(Mode):
    """A mode whose model answers in one forward pass.

    Attributes:
        truncation: cuts or splits long texts.
        typed: whether a second text has token types of its own.
        explained_layer: where attributions start.
        usual_text: what a worker warms up on, its middle token repeated.
    """

    truncation = Truncation()
    typed = True
    explained_layer = TOKEN_LAYER
    usual_text = "a"

    def complete(self, row: Row) -> Row:
        """Return a row with the padding whose outputs `encode` needs; by default none."""
        return row

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        """Refuse an item by its tokens, with 413 or 422; a text has a row for each window."""

    def select_outputs(self, row: Row, outputs: Outputs) -> Outputs:
        """Copy the part of a row's outputs that `encode` needs; the rest is freed."""
        return outputs

    @abstractmethod
    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        """Return the answer to an item, ready for JSON; `computed` has the rows as in `check`."""

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        """Refuse an impossible target with 422; `wanted` has all `target_parameters`."""

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the requested outputs, or those behind the answer; 422 for a missing token."""
        return []

    @property
    def explained_schema(self) -> JsonSchema:
        """JSON Schema of what `explain` returns."""
        explanations = array(EXPLANATION, minItems=1)
        return record({"answer": self.answer_schema, "explanations": explanations})

    def explain(
        self,
        query: Query,
        computed: Sequence[Sequence[Computed]],
        explained: Sequence[tuple[Target, Attribution]],
    ) -> Any:
        """Return an item's answer with the attributions of its `targets`, ready for JSON."""
        explanations = [describe(*each) for each in explained]
        return {"answer": self.encode(query, computed), "explanations": explanations}

    def _check_leaves_room(self, text: str, most: int, what: str) -> None:
        """Refuse with 413 an uncut text of more than `most` tokens; `what` names it in the message.

        The tokenizer makes all windows of the other text, each with the whole uncut text, before we
        can count them: with room for one token of the other text, they would fill the memory.
        """
        try:
            count = len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception:  # tokenizers raises a bare Exception where its truncation cannot cut
            count = most + 1
        if count > most:
            raise RequestError(
                413, f"{what} is over {most} tokens, half of what a row holds; send a shorter one"
            )

    def _check_token_index(self, token: int, windows: Sequence[Computed]) -> None:
        count = len(windows[0].row)
        if token >= count:
            window = "the text" if len(windows) == 1 else "the first window of the text"
            raise RequestError(
                422,
                f"target names a token by its place, and {window} has {count} (special tokens "
                f"included); send a place from 0 to {count - 1}",
            )

    def _check_uncut(
        self, wanted: CutParameters, rows: Sequence[Sequence[Row]], max_length: int
    ) -> None:
        """Refuse with 413 a text that was cut where the request forbids it."""
        if not wanted.truncate and any(row.truncated for windows in rows for row in windows):
            raise RequestError(
                413,
                f"the text has more than {max_length} tokens (special tokens included) and "
                "truncate is false; send a shorter text",
            )

    def _cut_note(self, *rows: Row) -> dict[str, bool]:
        return {"truncated": True} if any(row.truncated for row in rows) else {}
