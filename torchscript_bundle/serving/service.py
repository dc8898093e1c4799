"""The four verbs that carry requests: set up, decode request, predict, encode response."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from torchscript_bundle.serving.artifact import REMAKE, Bundle, ServingOptions
from torchscript_bundle.serving.body import decode_body
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.http import (
    JSON,
    TEXT,
    HttpRequest,
    HttpResponse,
    prefers_plain_text,
)
from torchscript_bundle.serving.modes import MODES
from torchscript_bundle.serving.modes.base import ModeRequest
from torchscript_bundle.serving.runtime import Runtime
from torchscript_bundle.serving.tokenization import Row, TextEncoder

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

DESCRIBED = ("mode", "labels", "max_length", "precision", "versions", "source")


@dataclass(frozen=True)
class Tokenized:
    """A request that is ready for the model: what the mode understood, and a row for each text."""

    request: ModeRequest
    rows: list[Row]


class Service:
    """Answers batches of requests from one artifact.

    Args:
        folder: the artifact's folder, or the unpacked archive.
        device: where the module runs.

    Raises:
        ArtifactError: the artifact cannot be served; the message names the file and the fix.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._bundle = Bundle.load(folder)
        self._bundle.check_files(folder)
        options = ServingOptions.load(folder)
        if self._bundle.mode not in MODES:
            raise ArtifactError(
                f"bundle.json: mode {self._bundle.mode!r} is not served; known are "
                f"{', '.join(MODES)}; {REMAKE}"
            )
        self._mode = MODES[self._bundle.mode](self._bundle, options.max_client_batch)
        self._encoder = TextEncoder(
            folder, self._bundle, truncate=options.on_too_long == "truncate"
        )
        self._runtime = Runtime(folder, self._bundle, device, options.batch_size)
        self._runtime.warm_up(self._encoder.encode(["a"])[0])

    def answer(self, requests: Sequence[HttpRequest]) -> list[HttpResponse]:
        """One response for each request, in order; a bad one never touches its neighbours."""
        decoded = [_guard(self._decode, request) for request in requests]
        ready = [item for item in decoded if isinstance(item, Tokenized)]
        outputs = iter(self._predict_apart(ready))
        return [
            self._respond(request, item, next(outputs)) if isinstance(item, Tokenized) else item
            for request, item in zip(requests, decoded, strict=True)
        ]

    def _decode(self, request: HttpRequest) -> Tokenized | HttpResponse:
        if request.purpose == "describe":
            return _json_response(200, self.describe())
        if request.purpose == "explain":
            raise RequestError(
                404, "this archive holds no explanations; POST the text to /predictions instead"
            )
        decoded = self._mode.decode(decode_body(request))
        rows = self._encoder.encode(decoded.texts)
        for at, row in enumerate(rows):
            if not row.input_ids:
                raise RequestError(422, f"text {at} has no tokens; send at least one word")
            if self._bundle.reads_padding and len(row) < self._bundle.min_length:
                raise RequestError(
                    422,
                    f"text {at} has {len(row)} tokens; this model takes at least "
                    f"{self._bundle.min_length} (special tokens included)",
                )
            if row.too_long:
                raise RequestError(
                    413,
                    f"text {at} has {len(row)} tokens; send at most {self._bundle.max_length} "
                    "(special tokens included)",
                )
        return Tokenized(decoded, rows)

    def _predict_apart(
        self, ready: Sequence[Tokenized]
    ) -> Sequence[list[torch.Tensor] | HttpResponse]:
        """What `_predict` gives; where that fails, each request is run alone and fails alone."""
        together = _guard(self._predict, ready)
        if not isinstance(together, HttpResponse):
            return together
        alone = [_guard(self._predict, [item]) for item in ready]
        return [each if isinstance(each, HttpResponse) else each[0] for each in alone]

    def _predict(self, ready: Sequence[Tokenized]) -> list[list[torch.Tensor]]:
        """The module's output for each row of each request; all rows share the batches."""
        outputs = iter(self._runtime.run([row for item in ready for row in item.rows]))
        return [[next(outputs) for _ in item.rows] for item in ready]

    def _respond(
        self, request: HttpRequest, item: Tokenized, output: list[torch.Tensor] | HttpResponse
    ) -> HttpResponse:
        if isinstance(output, HttpResponse):
            return output
        return _guard(self._encode, request, item, output)

    def _encode(
        self, request: HttpRequest, item: Tokenized, outputs: list[torch.Tensor]
    ) -> HttpResponse:
        answer = self._mode.encode(item.request, item.rows, outputs)
        if prefers_plain_text(request.accept):
            return HttpResponse(200, TEXT, self._mode.plain_text(answer).encode("utf-8"))
        return _json_response(200, answer)

    def describe(self) -> dict[str, Any]:
        """What this archive serves, for TorchServe's describe call."""
        facts = asdict(self._bundle)
        return {name: facts[name] for name in DESCRIBED}


def _guard(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | HttpResponse:
    """Runs a step; an error becomes the response of the request (or requests) it was for."""
    try:
        return step(*args, **kwargs)
    except RequestError as error:
        return _json_response(error.status, {"error": error.message})
    except Exception as error:
        # The message is left out: it may repeat what the client sent.
        frames = "".join(traceback.format_tb(error.__traceback__))
        logger.error("%s while answering a request\n%s", type(error).__name__, frames)
        return _json_response(500, {"error": "the server could not answer this request"})


def _json_response(status: int, value: Any) -> HttpResponse:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return HttpResponse(status, JSON, text.encode("utf-8"))
