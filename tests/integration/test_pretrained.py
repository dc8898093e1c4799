"""An archive that cannot be traced, in a real TorchServe, with transformers and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from tests import tiny
from tests.integration.conftest import Site
from tests.integration.helpers import READY_SECONDS, end, free_ports
from tests.integration.test_self_contained import SERVE_PYTHON
from torchscript_bundle.server import Server, ServerError

TEXTS = ["It works.", "Not bad at all.", "hour " * 100, "Café", "x"]


@pytest.fixture(scope="module")
def archive(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose own code branches on the text."""
    folder = tmp_path_factory.mktemp("branching")
    checkpoint = tiny.save_branching(folder / "checkpoint")
    settings = {"max_length": 64, "trust_remote_code": True, "save_mode": "pretrained"}
    return build(folder, checkpoint, **settings)


def test_a_server_answers_as_transformers_does(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_site: Callable[..., Site],
) -> None:
    """The Hub is a closed port, and no code of the model's is in a cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    checkpoint = archive.parents[1] / "checkpoint"
    server = start_site(checkpoint, archive).server
    body = json.dumps({"inputs": TEXTS, "top_k": None}).encode()
    answer = server.predict(body, content_type="application/json")
    assert answer.status == 200, answer
    auto = transformers.AutoModelForSequenceClassification
    eager = auto.from_pretrained(checkpoint, trust_remote_code=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    for text, found in zip(TEXTS, answer.json(), strict=True):
        encoded = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            [expected] = eager(**encoded).logits.softmax(dim=-1).tolist()
        scores = {each["label"]: each["score"] for each in found}
        assert [scores[name] for name in ("NEGATIVE", "POSITIVE")] == pytest.approx(
            expected, abs=1e-5
        )
    wrong = server.predict(b'{"inputs": 5}', content_type="application/json")
    assert wrong.status == 422


def test_a_machine_without_transformers_says_what_to_install(archive: Path, tmp_path: Path) -> None:
    if not SERVE_PYTHON.is_file():
        pytest.fail(f"{SERVE_PYTHON} is not there; `make test` makes it first")
    server = Server(tmp_path / "run", tmp_path / "logs")
    server.start(archive, free_ports(), python=str(SERVE_PYTHON))
    try:
        with pytest.raises(ServerError) as caught:
            server.wait_ready(b"Is anybody there?", READY_SECONDS)
    finally:
        end(server)
    assert f"-m pip install transformers=={transformers.__version__}" in str(caught.value)
