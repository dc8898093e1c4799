"""The service of models that answer in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse, json_response
from torchscript_bundle.serving.api.protocols import (
    adapt_error,
    find_protocol,
    first_keys,
    needs_body,
)
from torchscript_bundle.serving.api.protocols.call import Call, Lookup, RequestFields, Served
from torchscript_bundle.serving.artifact import Bundle, ServingOptions
from torchscript_bundle.serving.describe.describe_call import describe_bundle
from torchscript_bundle.serving.engine.padding import PADDINGS, Outputs, Tokens
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.engine.runtime import Runtime
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes import load_forward_mode, load_native_forward_mode
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Query
from torchscript_bundle.serving.observing.caller import Caller
from torchscript_bundle.serving.observing.steps import computing, step
from torchscript_bundle.serving.text.pairs import check_pairs, takes_pairs
from torchscript_bundle.serving.text.tokenizer import Row, TextEncoder

if TYPE_CHECKING:
    from torchscript_bundle.serving.explanations.explainer import Explainer, Explanation, Wanted


@dataclass(frozen=True)
class Answering:
    """A mode in one answer form, with its tokenizer; `explainer` None explains nothing."""

    mode: ForwardMode
    encoder: TextEncoder
    explainer: Explainer | None

    def fields(self, *, explain: bool) -> RequestFields:
        """Return the fields of its requests."""
        return self.explainer.form if explain and self.explainer is not None else self.mode


@dataclass(frozen=True)
class Tokenized:
    """A request that is ready for the model, with rows for each text of each item.

    `wanted` is the explanation to make; None for a prediction.
    """

    by: Answering
    call: Call
    queries: list[Query]
    rows: list[list[list[Row]]]
    wanted: Wanted | None
    caller: Caller

    @property
    def flat(self) -> list[Row]:
        """All rows, in order."""
        return [row for texts in self.rows for windows in texts for row in windows]


class Service:
    """Answers batches of requests from an archive; `model_name` is the name in URLs."""

    def __init__(self, folder: Path, device: torch.device, model_name: str = "") -> None:
        bundle = Bundle.load(folder)
        bundle.check_files(folder)
        self._options = options = ServingOptions.load(folder)
        self._bundle = PADDINGS[options.padding](bundle)
        self._folder = folder
        self._model_name = model_name
        self._max_texts = options.max_client_batch
        mode = load_forward_mode(self._bundle)
        native = load_native_forward_mode(self._bundle, mode)
        encoder = self._load_encoder(mode, options)
        alike = (native.truncation, native.typed) == (mode.truncation, mode.typed)
        native_encoder = encoder if alike else self._load_encoder(native, options)
        mode.set_tokenizer(encoder.tokenizer)
        native.set_tokenizer(native_encoder.tokenizer)
        select = mode.select_outputs
        self._runtime = Runtime(folder, self._bundle, device, options.batch_size, select)
        on_cpu = device.type == "cpu"
        self._pairs = takes_pairs(self._bundle, encoder, self._runtime, on_cpu=on_cpu)
        word = encoder.encode(mode.usual_text)[0]
        self._runtime.prepare(word, pack_weights=options.packed_weights)
        explainers = self._make_explainers((mode, native), options, word)
        self._own = Answering(mode, encoder, explainers[0])
        self._native = Answering(native, native_encoder, explainers[1])
        self._admission = Admission(
            options.max_call_seconds, options.batch_size, options.response_timeout / 2
        )

    def _load_encoder(self, mode: ForwardMode, options: ServingOptions) -> TextEncoder:
        return TextEncoder(
            self._folder,
            self._bundle,
            truncate=options.on_too_long == "truncate",
            truncation=mode.truncation,
            max_windows=self._max_texts,
            typed=mode.typed,
        )

    def _make_explainers(
        self, modes: Sequence[ForwardMode], options: ServingOptions, word: Row
    ) -> Sequence[Explainer | None]:
        if not self._bundle.explanations:
            return [None for _ in modes]
        # Its libraries are imported only where an artifact needs them.
        from torchscript_bundle.serving.explanations.explainer import make_explainers

        return make_explainers(modes, self._runtime, self._bundle, options, word)

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
            # Others may have been computed before these.
            late = {at: guard(ready[at].caller.check_deadline) for at in group}
            outputs |= {at: refused for at, refused in late.items() if refused is not None}
            wanted = [at for at in group if at not in outputs]
            found = self._predict_apart([ready[at] for at in wanted], admitted.deadline)
            outputs.update(zip(wanted, found, strict=True))
        self._admission.close(room)
        responses = [
            self._respond(request, item, outputs[at]) if isinstance(item, Tokenized) else item
            for at, request in enumerate(requests)
            for item in [decoded[at]]
        ]
        return [
            adapt_error(each, request.path) if isinstance(each, HttpResponse) else each
            for request, each in zip(requests, responses, strict=True)
        ]

    def _read(
        self, requests: Sequence[HttpRequest], room: Room
    ) -> dict[int, Tokenized | HttpResponse]:
        """Decode short bodies first, while there is time for reading."""

        def read(request: HttpRequest) -> Tokenized | HttpResponse:
            with room.reading(request.size):
                return self._decode(request)

        found: dict[int, Tokenized | HttpResponse] = {}
        for at in sorted(range(len(requests)), key=lambda at: requests[at].size):
            with step("tokenize", [requests[at].caller]):
                found[at] = guard(read, requests[at])
        return found

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
        request.caller.check_deadline()
        explain = request.purpose == "explain"
        if explain and self._own.explainer is None:
            raise no_explanations()
        forms = [each.fields(explain=explain) for each in (self._own, self._native)]
        keys = frozenset().union(*map(first_keys, forms))
        payload = decode_body(request, keys) if needs_body(request.path) else None
        protocol = find_protocol(payload, forms[0].offers, request.client, request.path)
        by = self._native if protocol.has_answer_form else self._own
        call = protocol.read(payload, by.fields(explain=explain), self._model_name)
        if isinstance(call, Lookup):
            return bounded(json_response(200, call.answer(self._served)))
        check_items(call, self._max_texts)
        wanted = by.explainer.decode(call) if explain and by.explainer else None
        tokenized = Tokenized(by, call, [], [], wanted, request.caller)
        for at, item in enumerate(wanted.items if wanted else call.items):
            query, rows = self._decode_item(item, tokenized, at)
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
        self, item: object, tokenized: Tokenized, at: int
    ) -> tuple[Query, list[list[Row]]]:
        by, call, wanted = tokenized.by, tokenized.call, tokenized.wanted
        with naming_item(at, call):
            query = by.mode.decode(item, call.parameters)
            if wanted is not None and by.explainer is not None:
                by.explainer.check_target(query, wanted, at)
            check_count(len(query.texts), self._max_texts)
            check_pairs(query.texts, taken=self._pairs)
            count = len(call.items) * len(query.texts)
            rows = [
                [replace(row, unpooled=query.unpooled) for row in windows]
                for windows in (
                    by.encoder.encode(text, query.stride, count, query.cut_side)
                    for text in query.texts
                )
            ]
            for row in (row for windows in rows for row in windows):
                self._check_row(row)
            by.mode.check(query, rows)
        if wanted is None:
            rows = [[by.mode.complete(row) for row in windows] for windows in rows]
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
        if not ready:
            return []
        together = self._predict_safely(ready, deadline)
        if not isinstance(together, HttpResponse):
            return together
        alone = [self._predict_safely([item], deadline) for item in ready]
        return [each if isinstance(each, HttpResponse) else each[0] for each in alone]

    def _predict_safely(
        self, ready: Sequence[Tokenized], deadline: float
    ) -> list[list[Outputs] | HttpResponse] | HttpResponse:
        with computing([(item.caller, item.flat) for item in ready]):
            return guard(self._predict, ready, deadline)

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
        with step("encode", [item.caller]):
            if item.wanted is None or item.by.explainer is None:
                return guard(self._encode, request, item, computed)
            return guard(item.by.explainer.begin, item.call, item.queries, computed, item.wanted)

    def _encode(
        self, request: HttpRequest, item: Tokenized, computed: Sequence[Sequence[list[Computed]]]
    ) -> HttpResponse:
        answers = [
            item.by.mode.encode(query, texts)
            for query, texts in zip(item.queries, computed, strict=True)
        ]
        reply = partial(item.call.respond, tokens=sum(map(len, item.flat)))
        return bounded(item.by.mode.respond(request, answers, reply))

    @property
    def _served(self) -> Served:
        own = self._own
        facts = (self._bundle, self._options, own.mode.offers, self.running.precision)
        return Served(*facts, own.encoder)

    def describe(self) -> dict[str, Any]:
        """Return the answer to a describe call."""
        return describe_bundle(self._folder, self._model_name, self._bundle, self.running)
