"""A row of the table, and the requests that it is tried with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

JSON = "application/json"
PREDICT = "/predictions/{model}"
#: Before an address of another API.
VERSIONED = "/predictions/{model}/1.0/"


@dataclass(frozen=True)
class Sent:
    """One request.

    Attributes:
        body: as it goes over the wire.
        shown: how the page writes it, in Markdown; empty for one that it does not write.
        content_type: None leaves the header out.
        path: the address; `{model}` is the served model.
        headers: names and values, beside the content type.
    """

    body: bytes
    shown: str = ""
    content_type: str | None = JSON
    path: str = PREDICT
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """The part of the path after the model's version."""
        return self.path.removeprefix(VERSIONED) if self.path.startswith(VERSIONED) else ""


@dataclass(frozen=True)
class Wrong:
    """Wrong requests of one kind.

    Attributes:
        what: the kind, in the page's words.
        status: what each of them gets.
        says: part of the sentence that each of them gets.
        sent: the requests; the page shows the first that can be shown.
    """

    what: str
    status: int
    says: str
    sent: tuple[Sent, ...]


@dataclass(frozen=True)
class Sample:
    """A right request of a mode, which wrong ones are made from.

    Attributes:
        mode: a key of `serving.modes.MODES`.
        checkpoint: the tiny model, a key of `tests.conftest.CHECKPOINTS`.
        item: an input, in the form of an object.
        wants: part of what is said of an input that is no object (nor a text, where one will do).
        parameters: those that a request cannot do without.
    """

    mode: str
    checkpoint: str
    item: Mapping[str, object]
    wants: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the first text of an item."""
        return next(iter(self.item))

    @property
    def good(self) -> dict[str, object]:
        """A request that is right."""
        return {"inputs": self.item, "parameters": self.parameters}

    def spoiled(self, source: str) -> str:
        """JSON of an item whose first text is something else, given as JSON."""
        return members({**sources(self.item), self.key: source})

    def request(self, inputs: str, **parameters: str) -> str:
        """JSON of a request, from JSON of its inputs and of some parameters."""
        wanted = {**sources(self.parameters), **parameters}
        stands = {"parameters": members(wanted)} if wanted else {}
        return members({"inputs": inputs, **stands})


def sources(value: Mapping[str, object]) -> dict[str, str]:
    """Each member as JSON."""
    return {name: json.dumps(each) for name, each in value.items()}


def members(value: Mapping[str, str]) -> str:
    """JSON of an object from JSON of its members; what JSON cannot say may stand among them."""
    return "{" + ", ".join(f"{json.dumps(name)}: {each}" for name, each in value.items()) + "}"


def as_json(texts: Iterable[str], path: str = PREDICT) -> tuple[Sent, ...]:
    """Requests whose bodies are these texts, declared as JSON."""
    return tuple(Sent(text.encode(), f"`{text}`", path=path) for text in texts)


def unshown(texts: Iterable[str], shown: str, path: str = PREDICT) -> tuple[Sent, ...]:
    """The same of texts that are too long for the page, which says `shown` of them."""
    return tuple(Sent(text.encode(), shown, path=path) for text in texts)


def typed(
    content_type: str | None, *bodies: bytes, shown: str = "", path: str = PREDICT
) -> tuple[Sent, ...]:
    """Requests of another content type, shown as their bodies."""
    return tuple(Sent(body, shown or _readable(body), content_type, path) for body in bodies)


def _readable(body: bytes) -> str:
    text = body.decode("ascii", "backslashreplace")
    return f"`{text}`" if text.strip() else ""
