"""Every mode's archive in a real TorchServe answers as its service does in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.serving.helpers import ask
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config
from torchscript_bundle.server import Ports, Server
from torchscript_bundle.serving.service import Service

TEXT = "We waited an hour for cold soup."
REQUESTS: dict[str, object] = {
    "bert_ner": [TEXT, "It works as described."],
    "bert_mlm": {"inputs": "It [MASK] as described.", "parameters": {"top_k": 3}},
    "bert_qa": {"question": "How long?", "context": TEXT},
    "bert_embedding": [TEXT, "It works."],
    "bert_reranker": {"query": "soup", "passages": [TEXT, "It works.", "a film"]},
    "bert_nli": {"inputs": TEXT, "parameters": {"candidate_labels": ["food", "film"]}},
}


@contextmanager
def serving(folder: Path, archive: Path, sample: object) -> Iterator[Server]:
    server = Server(folder / "run", folder / "logs")
    server.start(archive, Ports.free())
    try:
        body = json.dumps(sample).encode()
        server.wait_ready(body, 120, content_type="application/json")
        yield server
    finally:
        server.stop()


def close(found: Any, expected: Any) -> bool:
    """Equal, numbers but for rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            close(found[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return bool(
        found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)
    )


@pytest.mark.parametrize("name", REQUESTS)
def test_a_server_answers_as_the_service_does(
    name: str,
    checkpoint: Callable[[str], Path],
    artifact: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    request, folder = REQUESTS[name], artifact(name)
    status, expected = ask(Service(folder, torch.device("cpu")), request)
    assert status == 200, expected
    archive = pack(folder, tmp_path / "store", load_config(checkpoint(name) / "setup_config.json"))
    with serving(tmp_path, archive, request) as server:
        answer = server.predict(json.dumps(request).encode(), content_type="application/json")
        assert answer.status == 200, answer
        assert close(answer.json(), expected)
        wrong = server.predict(b'{"inputs": 5}', content_type="application/json")
        assert wrong.status == 422
        assert "send" in wrong.json()["error"]
