"""The four verbs that carry requests: set up, decode request, predict, encode response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.serving.admission import Admission, Room, Work, overdue
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
    TEXT,
    HttpRequest,
    HttpResponse,
    json_response,
    prefers_plain_text,
)
from torchscript_bundle.serving.api.protocols import first_keys, read_call
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.artifact import Bundle, ServingOptions
from torchscript_bundle.serving.describe.describe_call import describe_bundle
from torchscript_bundle.serving.engine.batching import PADDINGS, Tokens
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.engine.runtime import Outputs, Runtime
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes import load_mode
from torchscript_bundle.serving.modes.base import ChecksRows, Computed, Narrows, Query, ReadsTokens
from torchscript_bundle.serving.text.pairs import check_pairs, takes_pairs
from torchscript_bundle.serving.text.tokenizer import Row, TextEncoder

if TYPE_CHECKING:
    from torchscript_bundle.serving.explanations.explainer import Explainer, Explanation, Wanted


@dataclass(frozen=True)
class Tokenized:
    """A request that is ready for the model.

    Attributes:
        call: what it asks for.
        queries: what the mode understood of each item.
        rows: for each text of each item, its rows.
        wanted: how its answers are to be explained, if they are.
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
    """Answers batches of requests from one artifact.

    Args:
        folder: the artifact's folder, or the unpacked archive.
        device: where the module runs.
        model_name: what the model is called in URLs.

    Raises:
        ArtifactError: the artifact cannot be served; the message names the file and the fix.
    """

    def __init__(self, folder: Path, device: torch.device, model_name: str = "") -> None:
        bundle = Bundle.load(folder)
        bundle.check_files(folder)
        options = ServingOptions.load(folder)
        self._bundle = PADDINGS[options.padding](bundle)
        self._folder = folder
        self._model_name = model_name
        self._max_texts = options.max_client_batch
        self._mode = load_mode(self._bundle)
        self._encoder = TextEncoder(
            folder,
            self._bundle,
            truncate=options.on_too_long == "truncate",
            truncation=self._mode.truncation,
            max_windows=self._max_texts,
        )
        if isinstance(self._mode, ReadsTokens):
            self._mode.set_tokenizer(self._encoder.tokenizer)
        narrow = self._mode.narrow if isinstance(self._mode, Narrows) else None
        self._runtime = Runtime(folder, self._bundle, device, options.batch_size, narrow)
        on_cpu = device.type == "cpu"
        self._pairs = takes_pairs(self._bundle, self._encoder, self._runtime, on_cpu=on_cpu)
        word = self._encoder.encode("a")[0]
        if options.packed_weights:
            self._runtime.pack(word)
        self._runtime.freeze(word)
        self._runtime.warm_up(word)
        self._explainer = self._make_explainer(options, word) if self._bundle.explanations else None
        self._admission = Admission(
            options.max_call_seconds, options.batch_size, options.response_timeout / 2
        )

    def _make_explainer(self, options: ServingOptions, word: Row) -> Explainer:
        """Its libraries are imported only where an artifact needs them."""
        from torchscript_bundle.serving.explanations.explainer import make_explainer

        return make_explainer(self._mode, self._runtime, self._bundle, options, word)

    @property
    def running(self) -> Running:
        """What computes the answers, in which precision."""
        return self._runtime.running

    def tokenize(self, request: HttpRequest) -> Tokenized | HttpResponse:
        """What a request asks for, ready for the model; the response to a bad one."""
        return guard(self._decode, request)

    def compute(self, ready: Sequence[Tokenized]) -> list[list[Outputs]]:
        """The module's outputs for each row of each request, as answers are made of them."""
        outputs = iter(self._runtime.run([row for item in ready for row in item.flat]))
        return [[next(outputs) for _ in item.flat] for item in ready]

    def answer(self, requests: Sequence[HttpRequest]) -> list[HttpResponse]:
        """Answer the requests of one call, explanations included, however long these take."""
        return [
            each if isinstance(each, HttpResponse) else guard(each.run, lambda: None)
            for each in self.begin(requests)
        ]

    def begin(self, requests: Sequence[HttpRequest]) -> list[HttpResponse | Explanation]:
        """Answer the predictions of one call; a bad or large one never touches its neighbours.

        Returns:
            For each request its response, in order; for one that is to be explained, what remains
            to be done.
        """
        room = self._admission.open(len(requests))
        decoded = self._read(requests, room)
        ready = {at: item for at, item in decoded.items() if isinstance(item, Tokenized)}
        admitted = room.admit({at: self._work(item) for at, item in ready.items()})
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
        """Decode the requests of a call, short bodies first, while there is time for reading."""

        def read(request: HttpRequest) -> Tokenized | HttpResponse:
            with room.reading(request.size):
                return self._decode(request)

        order = sorted(range(len(requests)), key=lambda at: requests[at].size)
        return {at: guard(read, requests[at]) for at in order}

    def _work(self, item: Tokenized) -> Work:
        """Estimate what a request asks of the model."""
        rows = item.flat
        return Work(len(rows), self._runtime.seconds(rows), self._runtime.least_seconds(rows))

    def share_weights(self, folder: Path) -> None:
        """Holds weights in memory once for all workers that are given this folder."""
        self._runtime.share(folder)

    @property
    def tokens(self) -> Tokens:
        """What passes for predictions took in so far."""
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
            # At once: the rows of a request that is far too large would fill the memory.
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
            share = len(call.items) * len(query.texts)
            rows = [self._encoder.encode(text, query.stride, share) for text in query.texts]
            for row in (row for windows in rows for row in windows):
                self._check_row(row)
            if isinstance(self._mode, ChecksRows):
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
        """Run requests together; where that fails, each is run alone and fails alone."""
        together = guard(self._predict, ready, deadline)
        if not isinstance(together, HttpResponse):
            return together
        alone = [guard(self._predict, [item], deadline) for item in ready]
        return [each if isinstance(each, HttpResponse) else each[0] for each in alone]

    def _predict(
        self, ready: Sequence[Tokenized], deadline: float
    ) -> list[list[Outputs] | HttpResponse]:
        """Run all rows of requests, which share the passes.

        Returns:
            For each request its rows' outputs; a 503 where the time was not enough for all of them.
        """
        outputs = iter(
            self._runtime.run_until([row for item in ready for row in item.flat], deadline)
        )
        results: list[list[Outputs] | HttpResponse] = []
        for item in ready:
            found = [each for _, each in zip(item.flat, outputs, strict=False) if each is not None]
            complete = len(found) == len(item.flat)
            results.append(found if complete else refusal(overdue(self._admission.retry_after)))
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
        if prefers_plain_text(request.accept):
            lines = "\n".join(map(self._mode.plain_text, answers))
            return bounded(HttpResponse(200, TEXT, lines.encode("utf-8")))
        return bounded(json_response(200, item.call.reply(answers)))

    def describe(self) -> dict[str, Any]:
        """Return what this archive serves and how to ask for it, for a describe call."""
        return describe_bundle(self._folder, self._model_name, self._bundle, self.running)
