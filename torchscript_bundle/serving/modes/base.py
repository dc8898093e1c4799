"""What a mode is, at serve time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tokenizers import Tokenizer

from torchscript_bundle.serving.api.fields import Field, read_values
from torchscript_bundle.serving.api.json_schema import JsonSchema
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.runtime import Outputs
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.text.tokenizer import Row, TextInput, Truncation

if TYPE_CHECKING:
    from torchscript_bundle.serving.api.protocols.call import Call


class Parameters:
    """Base of a mode's typed parameters: a dataclass with an attribute for each of its fields."""

    @classmethod
    def read(cls, fields: Mapping[str, Field], sent: Mapping[str, object]) -> Self:
        """Check what a request sets and take defaults for the rest.

        Raises:
            RequestError: a value is wrong or missing.
        """
        return cls(**read_values(fields, sent))


@dataclass(frozen=True)
class Query:
    """One item of a request, decoded.

    Attributes:
        texts: the texts to run through the model; `encode` gets their outputs in this order.
        parameters: what else the mode needs for the answer.
        stride: tokens that consecutive windows of a long text share.
    """

    texts: Sequence[TextInput]
    parameters: Any = None
    stride: int = 0


@dataclass(frozen=True)
class Computed:
    """One row (a text, or a window of it) with the module's outputs for it."""

    row: Row
    outputs: Outputs


class Mode(ABC):
    """What a request to one task means and what its answer looks like.

    Attributes:
        item_keys: members of an item; with `text` among them, an item may also be a string.
        parameters: what a request may set.
        target_parameters: what names the target of an explanation; empty without explanations.
        answer_schema: JSON Schema of the answer to an item.
        event_schema: JSON Schema of an event in a stream; None where answers are not streamed.
        message_schema: JSON Schema of chat messages; None where the model takes none.
    """

    item_keys: Mapping[str, Field]
    parameters: Mapping[str, Field]
    target_parameters: Mapping[str, Field] = {}
    answer_schema: JsonSchema
    event_schema: JsonSchema | None = None
    message_schema: JsonSchema | None = None

    @abstractmethod
    def __init__(self, bundle: Bundle) -> None:
        """Read the artifact's facts.

        Raises:
            ArtifactError: a fact that this mode needs is missing or wrong.
        """

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Take the artifact's tokenizer, before the first request."""
        self._tokenizer = tokenizer

    @abstractmethod
    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        """Read one item of a request: a string, or an object with some of `item_keys`.

        Args:
            item: as parsed from JSON, its type unchecked; an object has known keys only.
            parameters: those that the request sets, their values unchecked.

        Raises:
            RequestError: 422 or 413; the sentence says what to send.
        """

    @abstractmethod
    def plain_text(self, answer: Any) -> str:
        """Return an answer in as few words as possible, for clients that accept text/plain."""

    def for_inference_client(self, call: Call) -> Call:
        """Adapt a call of Hugging Face's InferenceClient to the answers that it parses."""
        return call


class ForwardMode(Mode):
    """A mode whose model answers in one forward pass.

    Attributes:
        truncation: whether long texts are cut or split into windows.
    """

    truncation = Truncation()

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        """Refuse an item that only its tokens show to be wrong.

        Args:
            query: from `decode`.
            rows: the rows of each text: one, or one for each window.

        Raises:
            RequestError: 413 or 422.
        """

    def select_outputs(self, row: Row, outputs: Outputs) -> Outputs:
        """Return copies of what `encode` needs of a row's outputs, so that the rest is freed."""
        return outputs

    @abstractmethod
    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        """Return the answer to an item, ready for JSON.

        Args:
            query: from `decode`.
            computed: the rows of each text, as in `check`, with their outputs.
        """

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        """Refuse a target of an explanation that does not exist, before anything is run.

        Args:
            query: from `decode`.
            wanted: the value of each of `target_parameters`.

        Raises:
            RequestError: 422.
        """

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the outputs to explain: those asked for, or those behind the answer.

        Raises:
            RequestError: 422 for a target that the text's tokens do not have.
        """
        return []


def cut_note(rows: Sequence[Row]) -> dict[str, bool]:
    """Return the member of an answer that tells that a text was cut; empty if none was."""
    return {"truncated": True} if any(row.truncated for row in rows) else {}
