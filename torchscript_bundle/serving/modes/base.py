"""What a mode is, at serve time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tokenizers import Tokenizer

from torchscript_bundle.serving.api.fields import Field
from torchscript_bundle.serving.api.json_schema import JsonSchema
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.text.tokenizer import Row, TextInput, Truncation


@dataclass(frozen=True)
class Query:
    """One item of a request, as a mode has understood it.

    Attributes:
        texts: what to run through the model, in the order in which `encode` wants them back.
        options: whatever the mode needs again to form the answer.
        stride: tokens that the windows of a long text share, for a mode that takes windows.
    """

    texts: Sequence[TextInput]
    options: Any = None
    stride: int = 0


@dataclass(frozen=True)
class Computed:
    """One row (a text, or a window of it) and what the module answers to it."""

    row: Row
    outputs: Outputs


class Mode(Protocol):
    """All that is special about one task: what a request means and what its answer looks like."""

    @property
    def item_keys(self) -> Mapping[str, Field]:
        """What an item holds, by key. With `text` among them, it may be a string too."""

    @property
    def parameters(self) -> Mapping[str, Field]:
        """What a request may set, by name."""

    @property
    def answer_schema(self) -> JsonSchema:
        """What `encode` gives, as JSON Schema."""

    @property
    def truncation(self) -> Truncation:
        """What becomes of texts that are too long."""

    def __init__(self, bundle: Bundle) -> None:
        """Takes the artifact's facts.

        Raises:
            ArtifactError: a fact that this mode needs is missing or wrong.
        """

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        """Understands one item of a request: a string, or an object with some of `item_keys`.

        Args:
            item: as JSON had it, its type not checked yet; an object has known keys only.
            parameters: those that the request set; their values are not checked yet.

        Raises:
            RequestError: 422 for a wrong form.
        """

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        """The answer to an item, ready for JSON.

        Args:
            query: what `decode` made of it.
            computed: for each of its texts, the rows (one, or one for each window).
        """

    def plain_text(self, answer: Any) -> str:
        """The same answer in as few words as can be, for clients that accept text/plain."""


@runtime_checkable
class ReadsTokens(Protocol):
    """A mode that also asks which tokens there are and what they spell."""

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes the artifact's tokenizer, before the first request."""


@runtime_checkable
class Narrows(Protocol):
    """A mode that needs little of large outputs; the rest is freed with the batch it came from."""

    def narrow(self, row: Row, outputs: Outputs) -> Outputs:
        """What `encode` needs of a row's outputs: copies, not views."""


@runtime_checkable
class AnswersInferenceClient(Protocol):
    """A mode of which Hugging Face's InferenceClient expects other answers than the native ones."""

    @property
    def inference_client_defaults(self) -> Mapping[str, object]:
        """Parameters as they are where that client sends none."""

    def inference_client_reply(self, answers: Sequence[Any], listed: bool) -> Any:
        """What that client parses.

        Args:
            answers: what `encode` made, for each item.
            listed: whether the client sent a list of items, not one.
        """


@runtime_checkable
class ChecksRows(Protocol):
    """A mode that can tell only from the tokens whether it has an answer to an item."""

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        """Looks at an item's rows before they are run.

        Args:
            query: what `decode` made of the item.
            rows: for each of its texts, the rows (one, or one for each window).

        Raises:
            RequestError: 413 or 422.
        """


@runtime_checkable
class Streams(Protocol):
    """A mode whose answers also come in events, and that may take messages instead of a text."""

    @property
    def event_schema(self) -> JsonSchema:
        """What the data of an event is, as JSON."""

    @property
    def message_schema(self) -> JsonSchema | None:
        """Messages that a request may hold; None where the model takes none."""


@runtime_checkable
class Explains(Protocol):
    """A mode whose answers can be explained by numbers of the module's outputs."""

    @property
    def target_parameters(self) -> Mapping[str, Field]:
        """The parameters that say what is explained, by their names."""

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        """Looks at what is to be explained before anything is run.

        Args:
            query: what `decode` made of an item.
            wanted: the value of each of `target_parameters`.

        Raises:
            RequestError: 422 for a target that there is not.
        """

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """The numbers to explain: those asked for, else those behind the answer.

        Args:
            query: what `decode` made of the item.
            computed: as for `encode`.
            wanted: as for `check_target`, which has seen it.

        Raises:
            RequestError: 422 for a target that the tokens have not.
        """
