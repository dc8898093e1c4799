"""Rehearse a worker at a precision: the serving code itself, on the artifact's own files."""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.quality.decisions import Item, RowOutputs
from torchscript_bundle.export.quality.texts import Line
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.service import Service, Tokenized
from torchscript_bundle.serving.text.tokenizer import Row

#: A line as a worker read it; each kind of worker has its own class.
Request = Any


class CannotRunError(Exception):
    """A precision that cannot be tried; the message says why, and what to do."""


class Rehearsal(ABC):
    """A worker's service of an unfinished artifact, whose `bundle.json` it overwrites."""

    def __init__(self, folder: Path, bundle: Bundle, precision: str, device: torch.device) -> None:
        replace(bundle, precision=precision, explanations=False).dump(folder)
        # The log of a starting worker is not for an export's screen.
        log = logging.getLogger("torchscript_bundle.serving")
        before = log.level
        log.setLevel(logging.ERROR)
        try:
            running = self._start(folder, device)
        finally:
            log.setLevel(before)
        if running.reason is not None:
            raise CannotRunError(
                f"{running.reason}; export on a machine like those that will serve"
            )

    @abstractmethod
    def _start(self, folder: Path, device: torch.device) -> Running:
        """Load and warm up the service; return the precision that it runs in."""

    @abstractmethod
    def read(self, line: Line) -> Request:
        """Return a line as a request without content type, or the sentence that refuses it."""

    @abstractmethod
    def compute(self, requests: Sequence[Request]) -> list[list[Item]]:
        """Compute the items of requests that come in one call of a worker."""

    def seconds(self, requests: Sequence[Request]) -> float:
        """Return how long a call takes."""
        started = time.perf_counter()
        self.compute(requests)
        return time.perf_counter() - started


class AnsweringRehearsal(Rehearsal):
    """Rehearses a model that answers in one pass."""

    def _start(self, folder: Path, device: torch.device) -> Running:
        self._service = Service(folder, device)
        return self._service.running

    def read(self, line: Line) -> Tokenized | str:
        read = self._service.tokenize(as_request(line))
        return refusal(read) if isinstance(read, HttpResponse) else read

    def compute(self, requests: Sequence[Request]) -> list[list[Item]]:
        outputs = self._service.compute(requests)
        return [list(_items(*pair)) for pair in zip(requests, outputs, strict=True)]


def as_request(line: Line) -> HttpRequest:
    """Return a line as the request of a client that sends no content type."""
    return HttpRequest({"body": line.text.encode("utf-8")}, {})


def refusal(response: HttpResponse) -> str:
    """Return the sentence of a response to a bad request."""
    return str(json.loads(response.body)["error"])


def _items(request: Tokenized, outputs: Sequence[tuple[torch.Tensor, ...]]) -> Iterator[Item]:
    """Yield the items of a request: its rows with their outputs."""
    left = iter(outputs)
    for texts in request.rows:
        yield [_row(row, next(left)) for windows in texts for row in windows]


def _row(row: Row, outputs: tuple[torch.Tensor, ...]) -> RowOutputs:
    special = row.encoding.special_tokens_mask if row.encoding is not None else [0] * len(row)
    return RowOutputs(
        tuple(output.float().cpu() for output in outputs), torch.tensor(special, dtype=torch.bool)
    )
