"""What workers compute at a precision: the serving code itself, on the artifact's own files."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from torchscript_bundle.export.quality.comparison import Item, RowOutputs
from torchscript_bundle.export.quality.texts import Line
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.service import Service, Tokenized
from torchscript_bundle.serving.tokenization import Row

#: A request that a worker has read.
Request = Tokenized


class CannotRunError(Exception):
    """Why a precision cannot be tried, and what to do about it."""


class Rehearsal:
    """A worker's service over an artifact that is being made.

    Args:
        folder: the artifact's; its `bundle.json` is written.
        bundle: what that says, but for the precision.
        precision: what to compute in.
        device: where.

    Raises:
        CannotRunError: that precision cannot be had on this machine.
    """

    def __init__(self, folder: Path, bundle: Bundle, precision: str, device: torch.device) -> None:
        replace(bundle, precision=precision, explanations=False).dump(folder)
        with _quiet():
            self._service = Service(folder, device)
        if self._service.running.reason is not None:
            raise CannotRunError(
                f"{self._service.running.reason}; export on a machine like those that will serve"
            )

    def read(self, line: Line) -> Request | str:
        """A line as a request without a content type, or the sentence that refuses it."""
        read = self._service.tokenize(HttpRequest({"body": line.text.encode("utf-8")}, {}))
        return str(json.loads(read.body)["error"]) if isinstance(read, HttpResponse) else read

    def compute(self, requests: Sequence[Request]) -> list[list[Item]]:
        """The items of requests that come in one call of a worker."""
        outputs = self._service.compute(requests)
        return [list(_items(*pair)) for pair in zip(requests, outputs, strict=True)]

    def seconds(self, requests: Sequence[Request]) -> float:
        """How long a call takes."""
        started = time.perf_counter()
        self._service.compute(requests)
        return time.perf_counter() - started


def _items(request: Request, outputs: Sequence[tuple[torch.Tensor, ...]]) -> Iterator[Item]:
    """A request's rows, item by item, with what was computed for each."""
    left = iter(outputs)
    for texts in request.rows:
        yield [_row(row, next(left)) for windows in texts for row in windows]


def _row(row: Row, outputs: tuple[torch.Tensor, ...]) -> RowOutputs:
    special = row.encoding.special_tokens_mask if row.encoding is not None else [0] * len(row)
    return RowOutputs(
        tuple(output.float().cpu() for output in outputs), torch.tensor(special, dtype=torch.bool)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what a worker logs when it starts from an export's screen."""
    serving = logging.getLogger("torchscript_bundle.serving")
    before = serving.level
    serving.setLevel(logging.ERROR)
    try:
        yield
    finally:
        serving.setLevel(before)
