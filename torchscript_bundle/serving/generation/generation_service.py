"""The service of generative modes: it opens requests, and each step adds a token to each answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchscript_bundle.serving.api.body import decode_body
from torchscript_bundle.serving.api.fields import TEXT
from torchscript_bundle.serving.api.guards import (
    bounded,
    check_count,
    check_items,
    guard,
    naming_item,
    no_explanations,
)
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse, json_response
from torchscript_bundle.serving.api.openai.error_form import in_openai_shape
from torchscript_bundle.serving.api.openai.messages import MESSAGES, read_messages
from torchscript_bundle.serving.api.openai.requests import CompletionParser
from torchscript_bundle.serving.api.protocols import (
    adapt_error,
    find_protocol,
    first_keys,
    needs_body,
)
from torchscript_bundle.serving.api.protocols.call import Call, Lookup, Served
from torchscript_bundle.serving.api.sampling import Settings, usable_defaults
from torchscript_bundle.serving.artifact import CONFIG_FILE, FLOAT32, REMAKE, Bundle, ServingOptions
from torchscript_bundle.serving.artifact import read_json_object as read_json
from torchscript_bundle.serving.describe.describe_call import describe_bundle
from torchscript_bundle.serving.engine.loaders import load_torchscript
from torchscript_bundle.serving.engine.precisions import Running, warn_of_float32
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.generation.answer import Answer, PromptReader
from torchscript_bundle.serving.generation.estimates import GenerationPace
from torchscript_bundle.serving.generation.hugging_face_stream import HuggingFaceStream
from torchscript_bundle.serving.generation.openai_stream import OpenAIStream
from torchscript_bundle.serving.generation.packed_generator import pack_generator
from torchscript_bundle.serving.generation.request_queue import Limits
from torchscript_bundle.serving.generation.response_stream import ResponseStream
from torchscript_bundle.serving.generation.running_batch import pad_prompts
from torchscript_bundle.serving.generation.scheduler import Scheduler
from torchscript_bundle.serving.modes import load_generation_mode, load_native_generation_mode
from torchscript_bundle.serving.modes.base import Query
from torchscript_bundle.serving.modes.mode_options import GenerationOptions
from torchscript_bundle.serving.modes.text_generation import TextGeneration
from torchscript_bundle.serving.observing.steps import step
from torchscript_bundle.serving.text.tokenizer import TextEncoder

if TYPE_CHECKING:
    from torchscript_bundle.serving.text.chat_template import ChatTemplate

logger = logging.getLogger(__name__)

#: The key of setup_config.json that only these modes read.
MAX_BATCH_TOKENS = "max_batch_tokens"
#: The paths of OpenAI's clients after a model's address, and whether they take messages.
COMPLETIONS = {"chat/completions": True, "completions": False}
#: Clients that can read events.
STREAMS = ("http", "huggingface_hub")
#: Tokens of the prompt that measures the pace of reading.
PACE_TOKENS = 128
WARM_UP = Settings(
    max_new_tokens=3, do_sample=True, top_k=5, top_p=0.9, repetition_penalty=1.1, seed=0
)


class GenerationService:
    """Generates answers to requests, from an artifact's folder or an unpacked archive."""

    def __init__(self, folder: Path, device: torch.device, model_name: str = "") -> None:
        self._bundle = Bundle.load(folder)
        self._bundle.check_files(folder)
        self._options = ServingOptions.load(folder)
        self._device = device
        self._folder = folder
        self._model_name = model_name
        self._mode = load_generation_mode(self._bundle)
        self._native = load_native_generation_mode(self._bundle, self._mode)
        self._encoder = TextEncoder(folder, self._bundle, truncate=False)
        self._native.set_tokenizer(self._encoder.tokenizer)
        options = self._mode.options
        self._prompts = PromptReader(self._bundle, options, self._encoder.tokenizer)
        self._template = _load_template(options)
        defaults = usable_defaults(options.defaults)
        self._completions = CompletionParser(self._bundle.max_length - 1, defaults, model_name)
        limits = Limits(self._options.batch_size, _max_batch_tokens(folder))
        self.generator, self._running = self._load_generator(folder, device)
        patience = self._options.response_timeout
        self._scheduler = Scheduler(self.generator, device, limits, patience)
        self._warm_up(limits.tokens)

    @property
    def running(self) -> Running:
        """The precision of the module, and the reason if it is not the wanted one."""
        return self._running

    def prefill(self, prompts: Sequence[Sequence[int]], room: int) -> tuple[Tensor, list[Tensor]]:
        """Run `Generator.prefill` on prompts, apart from those of requests."""
        ids, mask = pad_prompts(self.generator, prompts, self._device)
        logits, cache = self.generator.prefill(ids, mask, room)
        return logits, cache

    def _load_generator(self, folder: Path, device: torch.device) -> tuple[Any, Running]:
        """Load the module over packed weights in the artifact's precision, or as it was saved."""
        wanted = self._bundle.precision
        if device.type == "cpu" and self._options.packed_weights:
            prompt = self._prompts.start("a", WARM_UP).prompt
            # Without a name for the module here, packing can free it.
            generator, reason = pack_generator(
                load_torchscript(folder, self._bundle, device), prompt, wanted
            )
            if reason is not None and wanted != FLOAT32:
                generator, _ = pack_generator(generator, prompt, FLOAT32)
        else:
            generator = load_torchscript(folder, self._bundle, device)
            reason = f"there is no {wanted} without packed weights, which are for CPUs"
        if reason is None or wanted == FLOAT32:
            return generator, Running(wanted)
        warn_of_float32(wanted, reason)
        return generator, Running(FLOAT32, reason)

    def _warm_up(self, most_tokens: int) -> None:
        """Generate a little, alone and with an answer that joins; then measure the pace."""
        started = time.perf_counter()
        for _ in range(2):
            self._scheduler.add([self._prompts.start("a", WARM_UP)])
            self._scheduler.step()
        self._run_all()
        # A longer prompt that fits the batch measures the pace of reading.
        answer = self._prompts.start("a", WARM_UP)
        room = min(self._bundle.max_length, most_tokens - 1) - answer.most
        answer.prompt = (list(answer.prompt) * PACE_TOKENS)[: min(PACE_TOKENS, room)]
        self._scheduler.pace = GenerationPace()
        self._scheduler.add([answer])
        self._run_all()
        self._scheduler.pace.forget_answers()
        logger.info("warm-up took %.1f s", time.perf_counter() - started)

    def _run_all(self) -> None:
        while self._scheduler.running or self._scheduler.waiting:
            self._scheduler.step()

    def open(self, request: HttpRequest) -> ResponseStream | HttpResponse:
        """Queue a request; a bad one is answered at once."""
        path = request.path.removeprefix("v1/")
        with step("tokenize", [request.caller]):
            if path in COMPLETIONS and request.purpose == "predict":
                opened = guard(self._open_completion, request, COMPLETIONS[path])
                return in_openai_shape(opened) if isinstance(opened, HttpResponse) else opened
            opened = guard(self._open, request)
            return adapt_error(opened, request.path) if isinstance(opened, HttpResponse) else opened

    def _open_completion(self, request: HttpRequest, chat: bool) -> ResponseStream:
        request.caller.check_deadline()
        asked = self._completions.read(decode_body(request, ()), chat, request.client)
        prompts = [self._render(asked.messages)] if chat else asked.prompts
        check_count(len(prompts), self._options.max_client_batch)
        answers = [
            self._check_room(self._prompts.start(text, settings, special_tokens=not chat))
            for text, settings in zip(prompts, asked.settings, strict=True)
        ]
        name = self._model_name
        return self._queue(
            OpenAIStream(request, answers, asked.stream, model=name, chat=chat, usage=asked.usage)
        )

    def _render(self, messages: list[dict[str, str]]) -> str:
        if self._template is None:
            raise RequestError(
                404, "this model has no chat template; send a prompt to /completions instead"
            )
        return self._template.render(messages)

    def _open(self, request: HttpRequest) -> ResponseStream | HttpResponse:
        if request.client == "refused_grpc":
            raise RequestError(400, "TorchServe has refused this call; use Predictions")
        if request.purpose == "describe":
            return json_response(200, self.describe())
        if request.purpose == "explain":
            raise no_explanations()
        request.caller.check_deadline()
        keys = first_keys(self._mode) | {MESSAGES}
        payload = decode_body(request, keys) if needs_body(request.path) else None
        chat = False
        if self._native.takes_messages and isinstance(payload, dict) and MESSAGES in payload:
            payload, chat = self._with_prompt(payload), True
        protocol = find_protocol(payload, self._mode.offers, request.client, request.path)
        mode = self._native if protocol.has_answer_form else self._mode
        call = protocol.read(payload, mode, self._model_name)
        if isinstance(call, Lookup):
            return bounded(json_response(200, call.answer(self._served)))
        check_items(call, self._options.max_client_batch)
        begun = [self._start(mode, item, call, at, chat) for at, item in enumerate(call.items)]
        queries, answers = [query for query, _ in begun], [answer for _, answer in begun]
        streamed = self._check_stream(queries, call, request)
        return self._queue(HuggingFaceStream(request, answers, streamed, mode, queries, call.reply))

    @property
    def _served(self) -> Served:
        facts = (self._bundle, self._options, self._mode.offers, self.running.precision)
        return Served(*facts, self._encoder)

    def _queue(self, stream: ResponseStream) -> ResponseStream:
        caller = stream.request.caller
        self._scheduler.add(stream.answers, streamed=stream.streamed, caller=caller)
        return stream

    def _with_prompt(self, payload: dict[str, Any]) -> dict[str, Any]:
        if TEXT.name in payload:
            raise RequestError(422, f"send {MESSAGES} or {TEXT.name}, not both")
        if self._template is None:
            raise RequestError(422, f"this model has no chat template; send a text, not {MESSAGES}")
        text = self._template.render(read_messages(payload[MESSAGES]))
        rest = {name: value for name, value in payload.items() if name != MESSAGES}
        return {TEXT.name: text, **rest}

    def _start(
        self, mode: TextGeneration, item: object, call: Call, at: int, chat: bool
    ) -> tuple[Query, Answer]:
        with naming_item(at, call):
            query = mode.decode(item, call.parameters)
            [text] = query.texts
            assert isinstance(text, str)
            # A chat template writes the special tokens itself.
            answer = self._prompts.start(text, query.parameters.settings, special_tokens=not chat)
            return query, self._check_room(answer)

    def _check_room(self, answer: Answer) -> Answer:
        if not self._scheduler.room_for(answer):
            raise RequestError(
                413,
                f"{len(answer.prompt)} tokens and {answer.most} new ones are more than a batch of "
                "this server holds; send a shorter text or a lower max_new_tokens",
            )
        return answer

    def _check_stream(self, queries: list[Query], call: Call, request: HttpRequest) -> bool:
        streamed = bool(queries[0].parameters.stream)
        if streamed and (call.listed or request.client not in STREAMS):
            raise RequestError(
                422, "stream is for one text, sent over HTTP; leave it out for others"
            )
        return streamed

    def step(self) -> None:
        """Generate a token of each answer that has a row."""
        self._scheduler.step()

    def close(self, stream: ResponseStream) -> None:
        """Forget a request that was answered, or whose client is gone."""
        for answer in stream.answers:
            self._scheduler.drop(answer)

    def finish(self, stream: ResponseStream) -> HttpResponse:
        """Return the response to a request that is done and not streamed."""
        with step("encode", [stream.request.caller]):
            return stream.adapt(guard(lambda: bounded(stream.response())))

    def describe(self) -> dict[str, Any]:
        """Return the artifact's facts, its OpenAPI document and the present load."""
        return describe_bundle(
            self._folder, self._model_name, self._bundle, self.running, writing=self.counts()
        )

    def counts(self) -> dict[str, int]:
        """Return the answers with and without a row, and the totals since the start."""
        scheduler = self._scheduler
        counts = asdict(scheduler.counts)
        return {"running": scheduler.running, "waiting": scheduler.waiting, **counts}


def _load_template(options: GenerationOptions) -> ChatTemplate | None:
    if options.chat_template is None:
        return None
    # jinja2 is imported only for artifacts that need it.
    from torchscript_bundle.serving.text.chat_template import ChatTemplate

    return ChatTemplate(options.chat_template, options.special_tokens)


def _max_batch_tokens(folder: Path) -> int:
    value = read_json(folder / CONFIG_FILE).get(MAX_BATCH_TOKENS)
    if not isinstance(value, int):
        raise ArtifactError(f"{folder / CONFIG_FILE}: no key {MAX_BATCH_TOKENS}; {REMAKE}")
    return value
