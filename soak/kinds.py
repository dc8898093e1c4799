"""Every kind of request that the soak sends, right and wrong, with the status that it must get."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soak.archives import LABELS, MOST_TEXTS, VECTORS
from soak.client import Ask

#: Part of the requests that are wrong.
WRONG = 0.2
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
TEXT = "Two weeks of emails, three agents, and my parcel is still not here."
OTHER = "It works, and it has not let me down once."
WRONG_KEY = "Bearer wrong"


@dataclass(frozen=True)
class Kind:
    """A request to a model, and the status of its right answer.

    Attributes:
        share: how often it is sent, beside kinds of 1.
        key: `own` is put in by the sender.
    """

    name: str
    model: str
    ask: Ask
    status: int = 200
    share: float = 1.0
    key: str = "own"

    def asked(self, headers: Mapping[str, str]) -> Ask:
        """Return the request with the server's key, or the wrong one, or none."""
        keys = {"own": headers, "wrong": {"Authorization": WRONG_KEY}, "none": {}}
        return Ask(
            self.ask.path, self.ask.body, {**self.ask.headers, **keys[self.key]}, self.ask.method
        )


def _kind(
    name: str,
    model: str,
    body: Any,
    *,
    path: str = "/predictions/{model}",
    kind: str = JSON,
    accept: str = "",
    **more: Any,
) -> Kind:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    headers = {"Content-Type": kind} if kind else {}
    headers |= {"Accept": accept} if accept else {}
    return Kind(f"{model}: {name}", model, Ask(path.format(model=model), data, headers), **more)


def _of_any(model: str) -> list[Kind]:
    """Return what both models are asked alike."""
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": [TEXT, OTHER]}
    second = {"id": "7", "inputs": [tensor]}
    plain = "/predictions/{model}/1.0/tokenize"
    right = [
        _kind("text", model, TEXT, kind="text/plain"),
        _kind("JSON", model, {"text": OTHER}),
        _kind("list", model, [TEXT, OTHER, "Late."]),
        _kind("form", model, "data=Not+bad+at+all.", kind=FORM),
        _kind("KServe's first", model, {"instances": [TEXT]}, path="/v1/models/{model}:predict"),
        _kind("KServe's second", model, second, path="/v2/models/{model}/infer"),
        _kind("tokenize", model, {"inputs": OTHER}, path=plain),
    ]
    wrong = [
        _kind("empty", model, "", status=400),
        _kind("no JSON", model, '{"text": ', status=400),
        _kind("unknown key", model, {"text": TEXT, "colour": "red"}, status=422),
        _kind("no text", model, {"text": 5}, status=422),
        _kind("a picture", model, "GIF89a", kind="image/gif", status=415),
        _kind("too many texts", model, [TEXT] * (MOST_TEXTS + 1), status=413),
        _kind("wrong key", model, {"text": TEXT}, status=401, key="wrong"),
        _kind("no key", model, {"text": TEXT}, status=401, key="none"),
    ]
    return right + wrong


def kinds() -> list[Kind]:
    """Return all kinds."""
    openai = {"model": VECTORS.name, "input": [TEXT, OTHER], "encoding_format": "float"}
    embeddings = "/predictions/{model}/1.0/v1/embeddings"
    pair = {"text": TEXT, "text_pair": OTHER}
    explain = "/explanations/{model}"
    return [
        *_of_any(LABELS.name),
        *_of_any(VECTORS.name),
        _kind("pair", LABELS.name, pair),
        _kind("all labels", LABELS.name, {"text": TEXT, "top_k": None}),
        _kind("label alone", LABELS.name, {"text": TEXT}, accept="text/plain"),
        _kind("explanation", LABELS.name, {"text": OTHER}, path=explain, share=0.3),
        _kind("predict", LABELS.name, {"inputs": TEXT}, path="/predictions/{model}/1.0/predict"),
        _kind("OpenAI's", VECTORS.name, openai, path=embeddings),
        _kind("embed", VECTORS.name, {"inputs": TEXT}, path="/predictions/{model}/1.0/embed"),
        _kind(
            "OpenAI's, no input", VECTORS.name, {"model": VECTORS.name}, path=embeddings, status=400
        ),
        _kind("no explanation", VECTORS.name, {"text": TEXT}, path=explain, status=404),
        _kind("no such model", "nobody", {"text": TEXT}, status=404, share=0.5),
    ]


class Mix:
    """Draws kinds at random, one in five of them wrong."""

    def __init__(self, seed: int) -> None:
        known = kinds()
        self._chance = random.Random(seed)
        self._right = [each for each in known if each.status == 200]
        self._wrong = [each for each in known if each.status != 200]

    def draw(self) -> Kind:
        """Return the next."""
        among = self._wrong if self._chance.random() < WRONG else self._right
        [kind] = self._chance.choices(among, [each.share for each in among])
        return kind
