"""Tiny writers with tokenizers of each family, their artifacts, and what transformers writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests import tiny
from tests.export.generation.helpers import MAX_LENGTH, writer
from torchscript_bundle.export.generation import make_generator, read_facts
from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.artifact import (
    CONFIG_FILE,
    FORMAT_VERSION,
    MODULE_FILE,
    Bundle,
    Output,
    Padding,
    file_sha256,
)
from torchscript_bundle.serving.generation.generation_service import GenerationService

TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
CONFIG = {
    "batch_size": 8,
    "max_client_batch": 4,
    "response_timeout": 600,
    "max_call_seconds": 3.0,
    "explanation_steps": 1,
    "explanation_batch_size": 1,
    "on_too_long": "error",
    "packed_weights": True,
    "padding": "longest",
    "max_batch_tokens": 8 * MAX_LENGTH,
}


def byte_level() -> PreTrainedTokenizerFast:
    """GPT-2's kind: no special tokens around a text."""
    tokenizer = tiny.spelling_byte_level_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def byte_fallback() -> PreTrainedTokenizerFast:
    """Llama's kind: what has no token is spelled in bytes."""
    special = ["<unk>", "<s>", "</s>"]
    letters = sorted(
        {letter for text in tiny.CORPUS for letter in text if letter.isascii()} - {" "}
    )
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters][:300]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def unigram() -> PreTrainedTokenizerFast:
    """T5's kind."""
    tokenizer = tiny.unigram_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


#: Tokens that end a text: the tokenizer's, and one that the tiny model often writes.
EOS_IDS = {"gpt2": (2, 14), "llama": (2, 35), "t5": (2, 43)}
TOKENIZERS = {"gpt2": byte_level, "llama": byte_fallback, "t5": unigram}


@dataclass
class Written:
    """A tiny model that writes, as transformers has it and as it is served."""

    name: str
    folder: Path
    model: Any
    tokenizer: PreTrainedTokenizerFast
    eos_ids: tuple[int, ...]

    @property
    def seq2seq(self) -> bool:
        return bool(self.model.config.is_encoder_decoder)

    def service(self, folder: Path | None = None) -> GenerationService:
        return GenerationService(folder or self.folder, torch.device("cpu"), "tiny")

    def greedy(self, text: str, new: int, **options: Any) -> tuple[list[int], str]:
        """Tokens and text that transformers writes, alone."""
        ids = torch.tensor([self.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            written = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False,
                eos_token_id=list(self.eos_ids), pad_token_id=0, **options,
            )[0]  # fmt: skip
        before = 1 if self.seq2seq else ids.shape[1]
        return written[before:].tolist(), self.spell(written.tolist(), ids[0].tolist())

    def spell(self, written: list[int], prompt: list[int]) -> str:
        """What the tokenizer makes of a whole answer, after its prompt."""
        whole = self.decode(written)
        return whole if self.seq2seq else whole[len(self.decode(prompt)) :]

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True))


def make(name: str, folder: Path, *, first: int | None = None, last: int | None = None) -> Written:
    """Writes the artifact of a tiny model into a folder.

    Args:
        name: a key of `TOKENIZERS`.
        folder: is made.
        first, last: tokens that the model is told to begin and to end with.
    """
    seq2seq = name == "t5"
    model = writer(name, seq2seq=seq2seq)
    tokenizer = TOKENIZERS[name]()
    eos_ids = EOS_IDS[name]
    model.generation_config.eos_token_id = list(eos_ids)
    model.generation_config.forced_bos_token_id = first
    model.generation_config.forced_eos_token_id = last
    return save(name, model, tokenizer, folder)


def save(name: str, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Written:
    """Writes the artifact of a model into a folder, which is made."""
    seq2seq = bool(model.config.is_encoder_decoder)
    eos_ids = tuple(model.generation_config.eos_token_id)
    facts = read_facts(model, MAX_LENGTH, MAX_LENGTH)
    made = make_generator(model, facts)
    folder.mkdir(parents=True, exist_ok=True)
    tracing.save(made.module, folder / MODULE_FILE)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / CONFIG_FILE).write_text(json.dumps(CONFIG))
    bundle = Bundle(
        format_version=FORMAT_VERSION,
        mode="text2text_generation" if seq2seq else "text_generation",
        inputs=("input_ids", "attention_mask"),
        outputs=(Output("logits"),),
        labels=(),
        mode_options={
            "eos_ids": list(eos_ids),
            "pad_id": facts.pad_id,
            "start_id": facts.start_id,
            "first_id": facts.first_id,
            "last_id": facts.last_id,
            "max_source_length": facts.max_source_length,
            "defaults": dict(facts.defaults),
            "chat_template": None if seq2seq else TEMPLATE,
            "special_tokens": dict(tokenizer.special_tokens_map),
            "clean_up_spaces": False,
            "default_max_new_tokens": 20,
        },
        save_mode="torchscript",
        save_options={},
        min_length=1,
        max_length=MAX_LENGTH,
        traced_lengths=(),
        dynamic_batch=True,
        dynamic_length=True,
        reads_padding=False,
        explanations=False,
        precision="float32",
        padding=Padding("right" if seq2seq else "left", facts.pad_id, 0),
        truncation_side="right",
        special_ids={},
        versions={"torch": torch.__version__},
        source={"name": name, "revision": None},
    )
    names = (MODULE_FILE, "tokenizer.json", CONFIG_FILE)
    digests = {each: file_sha256(folder / each) for each in names}
    replace(bundle, sha256=digests).dump(folder)
    return Written(name, folder, model, tokenizer, eos_ids)


def post(value: object, client: str = "http", path: str = "") -> HttpRequest:
    """A JSON request."""
    body = json.dumps(value).encode()
    return HttpRequest({"body": body}, {"body": "application/json"}, client=client, path=path)  # type: ignore[arg-type]


def answer_all(service: GenerationService, *requests: HttpRequest) -> list[HttpResponse]:
    """The responses to requests that are opened at once; a stream's events are its body."""
    opened = [service.open(request) for request in requests]
    streams = [b""] * len(opened)
    for _ in range(2000):
        service.step()
        for at, each in enumerate(opened):
            if not isinstance(each, HttpResponse) and each.streamed:
                streams[at] += each.events()
        if all(isinstance(each, HttpResponse) or each.done for each in opened):
            break
    responses = []
    for at, each in enumerate(opened):
        if isinstance(each, HttpResponse):
            responses.append(each)
        elif each.streamed:
            responses.append(HttpResponse(200, "text/event-stream", streams[at]))
        else:
            responses.append(service.finish(each))
    return responses


def ask(service: GenerationService, value: object) -> tuple[int, Any]:
    """Status and value of the answer to one JSON request."""
    [response] = answer_all(service, post(value))
    return response.status, json.loads(response.body)


def spoken(written: Written, prompt: str, new: int) -> tuple[list[int], str, int]:
    """Tokens, text and length of the prompt, for one that a chat template has rendered."""
    rendered = written.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([rendered])
    with torch.no_grad():
        whole = written.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False,
            eos_token_id=list(written.eos_ids), pad_token_id=0,
        )[0].tolist()  # fmt: skip
    return whole[len(rendered) :], written.spell(whole, rendered), len(rendered)
