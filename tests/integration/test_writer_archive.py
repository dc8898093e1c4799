"""A writer from its config to its answers: the exporter, the archive and a real TorchServe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.integration.conftest import Site


def test_a_model_that_writes(
    tmp_path: Path,
    build: Callable[..., Path],
    checkpoint: Callable[[str], Path],
    start_site: Callable[..., Site],
) -> None:
    folder = checkpoint("gpt2_writer")
    settings = {"mode": "text_generation", "max_length": 64, "traced_lengths": [16, 32]}
    archive = build(tmp_path, folder, **settings)
    site = start_site(folder, archive)
    text = "It works as described"
    body = {"inputs": text, "parameters": {"max_new_tokens": 12}}
    answer = site.server.predict(json.dumps(body).encode(), content_type="application/json")
    assert answer.status == 200, answer
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt").input_ids
    written = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert answer.json() == [{"generated_text": expected}]
