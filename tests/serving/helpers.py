"""Requests as clients send them, answers as they read them, artifacts with a fact changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch

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
from torchscript_bundle.serving.modes import GENERATION_MODES
from torchscript_bundle.serving.service import Service

CPU = torch.device("cpu")

#: A tiny checkpoint of each mode -> a request that uses its parameters.
EACH_MODE: dict[str, Any] = {
    "bert": {"inputs": [{"text": "It works.", "text_pair": "a film"}, "a film"], "top_k": None},
    "bert_ner": {"inputs": ["Café, naïve", "soup"], "ignore_labels": []},
    "bert_mlm": {"inputs": "It [MASK] as [MASK].", "parameters": {"top_k": 3}},
    "bert_qa": {"question": "How long?", "context": "It lasts two days.", "top_k": 4},
    "roberta_embedding": {"inputs": ["It works.", "soup"], "prompt_name": "query"},
    "roberta_sparse": {"inputs": ["It works.", "soup"], "top_k": 9, "return_tokens": True},
    "bert_reranker": {"query": "soup", "texts": ["It works.", "a film"], "return_documents": True},
    "bert_nli": {"text": "It works.", "candidate_labels": "food, film", "multi_label": True},
}

#: Modes that write texts; their tests are in tests/serving/generation.
WRITING = set(GENERATION_MODES)

BUNDLE = Bundle(
    format_version=FORMAT_VERSION,
    mode="sequence_classification",
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    outputs=(Output("logits"),),
    labels=("SAD", "SO-SO", "GLAD"),
    mode_options={"problem_type": "single_label_classification"},
    save_mode="torchscript",
    save_options={},
    min_length=8,
    max_length=64,
    traced_lengths=(64,),
    dynamic_batch=True,
    dynamic_length=True,
    reads_padding=False,
    explanations=False,
    precision="float32",
    padding=Padding(side="right", token_id=0, type_id=0),
    truncation_side="right",
    special_ids={"pad": 0},
    versions={"torch": torch.__version__},
    source={"model_name": "tiny", "revision": None},
)
STATIC = replace(BUNDLE, min_length=16, traced_lengths=(16, 32, 64), dynamic_length=False)


def raw(body: bytes, content_type: str = "", accept: str = "*/*") -> HttpRequest:
    """A request with a plain body."""
    return HttpRequest({"body": body}, {"body": content_type} if content_type else {}, accept)


def post(value: object, accept: str = "*/*", path: str = "") -> HttpRequest:
    """A request with a JSON body, to an address after the model's version."""
    request = raw(json.dumps(value).encode(), "application/json", accept)
    return replace(request, path=path)


def read(response: HttpResponse) -> Any:
    """The value of a JSON response, read as strictly as RFC 8259 is."""
    assert response.content_type == "application/json"
    return json.loads(response.body.decode("utf-8"), parse_constant=_not_json)


def ask(service: Service, value: object, path: str = "") -> tuple[int, Any]:
    """Status and value of the answer to one JSON request."""
    [response] = service.answer([post(value, path=path)])
    return response.status, read(response)


def change(
    folder: Path,
    to: Path,
    *,
    bundle: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    module: torch.jit.ScriptModule | None = None,
) -> Path:
    """A copy of an artifact (or itself) with facts changed, and its digests made true."""
    if to != folder:
        shutil.copytree(folder, to, dirs_exist_ok=True)
    if config is not None:
        path = to / CONFIG_FILE
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    if module is not None:
        tracing.save(module, to / MODULE_FILE)
    facts = Bundle.load(to)
    digests = {name: file_sha256(to / name) for name in facts.files}
    replace(facts, sha256=digests, **(bundle or {})).dump(to)
    return to


def _not_json(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")
