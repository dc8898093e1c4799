"""The service of models that answer in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.serving.admission import OVERDUE, Admission, Room, Work
from torchscript_bundle.serving.api.body import decode_body
from torchscript_bundle.serving.api.guards import (
    bounded,
    check_count,
    check_items,
    guard,
    naming_item,
    no_explanations,
    refusal,
)
from torchscript_bundle.serving.api.http import (
    HttpRequest,
    HttpResponse,
    answers_response,
    json_response,
)
from torchscript_bundle.serving.api.protocols import first_keys, read_call
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.artifact import Bundle, ServingOptions
from torchscript_bundle.serving.describe.describe_call import describe_bundle
from torchscript_bundle.serving.engine.padding import PADDINGS, Outputs, Tokens
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.engine.runtime import Runtime
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes import load_forward_mode
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.text.pairs import check_pairs, takes_pairs
from torchscript_bundle.serving.text.tokenizer import Row, TextEncoder

if TYPE_CHECKING:
    from torchscript_bundle.serving.explanations.explainer import Explainer, Explanation, Wanted


@dataclass(frozen=True)
class Tokenized:
    """A request that is ready for the model, with rows for each text of each item.

    `wanted` is the explanation to make; None for a prediction.
    """

    call: Call
    queries: list[Query]
    rows: list[list[list[Row]]]
    wanted: Wanted | None

    @property
    def flat(self) -> list[Row]:
        """All rows, in order."""
        return [row for texts in self.rows for windows in texts for row in windows]


class Service:
    """Answers batches of requests from an archive; `model_name` is the name in URLs."""

    def __init__(self, folder: Path, device: torch.device, model_name: str = "") -> None:
        bundle = Bundle.load(folder)
        bundle.check_files(folder)
        options = ServingOptions.load(folder)
        self._bundle = PADDINGS[options.padding](bundle)
        self._folder = folder
        self._model_name = model_name
        self._max_texts = options.max_client_batch
        self._mode = load_forward_mode(self._bundle)
        self._encoder = TextEncoder(
            folder,
            self._bundle,
            truncate=options.on_too_long == "truncate",
            truncation=self._mode.truncation,
            max_windows=self._max_texts,
        )
        self._mode.set_tokenizer(self._encoder.tokenizer)
        select = self._mode.select_outputs
        self._runtime = Runtime(folder, self._bundle, device, options.batch_size, select)
        on_cpu = device.type == "cpu"
        self._pairs = takes_pairs(self._bundle, self._encoder, self._runtime, on_cpu=on_cpu)
        word = self._encoder.encode("a")[0]
        self._runtime.prepare(word, pack_weights=options.packed_weights)
        self._explainer: Explainer | None = None
        if self._bundle.explanations:
            # Its libraries are imported only where an artifact needs them.
            from torchscript_bundle.serving.explanations.explainer import make_explainer

            runtime = self._runtime
            self._explainer = make_explainer(self._mode, runtime, self._bundle, options, word)
        self._admission = Admission(
            options.max_call_seconds, options.batch_size, options.response_timeout / 2
        )

    @property
    def running(self) -> Running:
        """The precision that answers are computed in."""
        return self._runtime.running

    def tokenize(self, request: HttpRequest) -> Tokenized | HttpResponse:
        """Make a request ready for the model, or return the response to a bad one."""
        return guard(self._decode, request)

    def compute(self, ready: Sequence[Tokenized]) -> list[list[Outputs]]:
        """Return the outputs of each row of each request, for the mode to encode."""
        outputs = iter(self._runtime.run([row for item in ready for row in item.flat]))
        return [[next(outputs) for _ in item.flat] for item in ready]

    def answer(self, requests: Sequence[HttpRequest]) -> list[HttpResponse]:
        """Answer the requests of one call, explanations included, however long these take."""
        return [
            each if isinstance(each, HttpResponse) else guard(each.run, lambda: None)
            for each in self.begin(requests)
        ]

    def begin(self, requests: Sequence[HttpRequest]) -> list[HttpResponse | Explanation]:
        """Answer predictions and begin explanations; a bad or large request harms no other."""
        room = self._admission.open(len(requests))
        decoded = self._read(requests, room)
        ready = {at: item for at, item in decoded.items() if isinstance(item, Tokenized)}
        rows = {at: item.flat for at, item in ready.items()}
        admitted = room.admit(
            {at: Work(len(each), self._runtime.estimate(each)) for at, each in rows.items()}
        )
        outputs: dict[int, list[Outputs] | HttpResponse] = {
            at: refusal(error) for at, error in admitted.refused.items()
        }
        for group in admitted.groups:
            found = self._predict_apart([ready[at] for at in group], admitted.deadline)
            outputs.update(zip(group, found, strict=True))
        self._admission.close(room)
        return [
            self._respond(request, item, outputs[at]) if isinstance(item, Tokenized) else item
            for at, request in enumerate(requests)
            for item in [decoded[at]]
        ]

    def _read(
        self, requests: Sequence[HttpRequest], room: Room
    ) -> dict[int, Tokenized | HttpResponse]:
        """Decode short bodies first, while there is time for reading."""

        def read(request: HttpRequest) -> Tokenized | HttpResponse:
            with room.reading(request.size):
                return self._decode(request)

        order = sorted(range(len(requests)), key=lambda at: requests[at].size)
        return {at: guard(read, requests[at]) for at in order}

    def share_weights(self, folder: Path) -> None:
        """Hold packed weights in memory once for all workers with this folder."""
        self._runtime.executor.share_weights(folder)

    @property
    def tokens(self) -> Tokens:
        """The tokens of all passes for predictions so far."""
        return self._runtime.tokens

    def _decode(self, request: HttpRequest) -> Tokenized | HttpResponse:
        if request.purpose == "describe":
            return json_response(200, self.describe())
        explainer = self._explainer if request.purpose == "explain" else None
        if request.purpose == "explain" and explainer is None:
            raise no_explanations()
        form = explainer.form if explainer else self._mode
        payload = decode_body(request, first_keys(form))
        call = read_call(payload, form, self._model_name, request.client)
        check_items(call, self._max_texts)
        wanted = explainer.decode(call) if explainer else None
        tokenized = Tokenized(call, [], [], wanted)
        for at, item in enumerate(wanted.items if wanted else call.items):
            query, rows = self._decode_item(item, call, wanted, at)
            tokenized.queries.append(query)
            tokenized.rows.append(rows)
            # Check item by item: the rows of a far too large request would fill the memory.
            if len(tokenized.flat) > self._max_texts:
                raise RequestError(
                    413,
                    f"the texts make more than {self._max_texts} windows of "
                    f"{self._bundle.max_length} tokens; send fewer or shorter texts at a time",
                )
        return tokenized

    def _decode_item(
        self, item: object, call: Call, wanted: Wanted | None, at: int
    ) -> tuple[Query, list[list[Row]]]:
        with naming_item(at, call):
            query = self._mode.decode(item, call.parameters)
            if wanted is not None and self._explainer is not None:
                self._explainer.check_target(query, wanted, at)
            check_count(len(query.texts), self._max_texts)
            check_pairs(query.texts, taken=self._pairs)
            count = len(call.items) * len(query.texts)
            rows = [self._encoder.encode(text, query.stride, count) for text in query.texts]
            for row in (row for windows in rows for row in windows):
                self._check_row(row)
            self._mode.check(query, rows)
        return query, rows

    def _check_row(self, row: Row) -> None:
        if not row.input_ids:
            raise RequestError(422, "the text has no tokens; send at least one word")
        if self._bundle.reads_padding and len(row) < self._bundle.min_length:
            raise RequestError(
                422,
                f"the text has {len(row)} tokens; this model takes at least "
                f"{self._bundle.min_length} (special tokens included)",
            )
        if row.too_long:
            raise RequestError(
                413,
                f"the text has {len(row)} tokens; send at most {self._bundle.max_length} "
                "(special tokens included)",
            )

    def _predict_apart(
        self, ready: Sequence[Tokenized], deadline: float
    ) -> Sequence[list[Outputs] | HttpResponse]:
        """Run requests together; where that fails, run each alone to isolate the failure."""
        together = guard(self._predict, ready, deadline)
        if not isinstance(together, HttpResponse):
            return together
        alone = [guard(self._predict, [item], deadline) for item in ready]
        return [each if isinstance(each, HttpResponse) else each[0] for each in alone]

    def _predict(
        self, ready: Sequence[Tokenized], deadline: float
    ) -> list[list[Outputs] | HttpResponse]:
        """Run the rows of requests in common passes; an unfinished request gets a 503."""
        rows = [row for item in ready for row in item.flat]
        outputs = iter(self._runtime.run_until(rows, deadline))
        results: list[list[Outputs] | HttpResponse] = []
        for item in ready:
            found = [each for _, each in zip(item.flat, outputs, strict=False) if each is not None]
            complete = len(found) == len(item.flat)
            results.append(found if complete else refusal(self._admission.later(OVERDUE)))
        return results

    def _respond(
        self, request: HttpRequest, item: Tokenized, outputs: list[Outputs] | HttpResponse
    ) -> HttpResponse | Explanation:
        if isinstance(outputs, HttpResponse):
            return outputs
        left = iter(outputs)
        computed = [
            [[Computed(row, next(left)) for row in windows] for windows in texts]
            for texts in item.rows
        ]
        if item.wanted is None or self._explainer is None:
            return guard(self._encode, request, item, computed)
        return guard(self._explainer.begin, item.call, item.queries, computed, item.wanted)

    def _encode(
        self, request: HttpRequest, item: Tokenized, computed: Sequence[Sequence[list[Computed]]]
    ) -> HttpResponse:
        answers = [
            self._mode.encode(query, texts)
            for query, texts in zip(item.queries, computed, strict=True)
        ]
        return bounded(answers_response(request, answers, self._mode.plain_text, item.call.reply))

    def describe(self) -> dict[str, Any]:
        """Return the answer to a describe call."""
        return describe_bundle(self._folder, self._model_name, self._bundle, self.running)
