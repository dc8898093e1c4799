"""Explanations by a real TorchServe, and what a worker without captum says."""

from __future__ import annotations

import functools
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.integration.conftest import Site
from torchscript_bundle.server import ROOT, Answer, ServerError

SERVE_PYTHON = ROOT / ".venv-serve" / "bin" / "python"
TEXTS = ["It works.", "Not bad at all.", "שלום, the film", "hour " * 100]


@pytest.fixture(scope="module")
def explained_archive(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    return build(
        folder,
        tiny.save_checkpoint(folder / "checkpoint", tiny.gpt2, tiny.byte_level_tokenizer()),
        max_length=64,
        batch_size=8,
        captum_explanation=True,
        explanation_steps=100,
        max_client_batch=5000,
        response_timeout=3600,  # estimates of a busy machine are high
    )


@pytest.fixture(scope="module")
def explained_site(explained_archive: Path, start_site: Callable[..., Site]) -> Site:
    return start_site(explained_archive.parent, explained_archive)


@pytest.fixture(scope="module")
def bounded_site(
    build: Callable[..., Path],
    start_site: Callable[..., Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    """One whose calls may take a tenth of a second."""
    folder = tmp_path_factory.mktemp("bounded")
    checkpoint = tiny.save_checkpoint(folder / "checkpoint")
    options = {"max_length": 64, "batch_size": 8, "max_call_seconds": 0.1}
    return start_site(folder, build(folder, checkpoint, max_client_batch=5000, **options))


def explain(site: Site, value: Any) -> Answer:
    url = f"http://127.0.0.1:{site.port('inference')}/explanations/under_test"
    headers = {"Content-Type": "application/json"}
    body = json.dumps(value).encode()
    return site.server.request("POST", url, "inference", body=body, headers=headers)


def test_each_of_eight_at_once_gets_its_own(explained_site: Site) -> None:
    """Explained or not, good or not."""
    texts = [functools.partial(explain, explained_site, text) for text in TEXTS]
    plain = [functools.partial(explained_site.server.predict, text.encode()) for text in TEXTS[:2]]
    bad = [
        functools.partial(explain, explained_site, {"text": "x", "target": "HAPPY"}),
        functools.partial(explain, explained_site, {"inputs": TEXTS, "format": "html"}),
    ]
    *explained, first, second, wrong, page = explained_site.together([*texts, *plain, *bad])
    assert [answer.status for answer in explained] == [200] * 4
    for text, answer in zip(TEXTS, explained, strict=True):
        value = answer.json()
        alone = explained_site.server.predict(text.encode()).json()
        assert value["answer"]["label"] == alone["label"]
        [found] = value["explanations"]
        total = sum(token["importance"] for token in found["tokens"])
        difference = found["output"] - found["baseline_output"]
        assert total - difference == pytest.approx(found["delta"], abs=1e-4)
    assert (first.status, second.status) == (200, 200)
    assert wrong.status == 422 and "NEGATIVE, POSITIVE" in wrong.json()["error"]
    assert (page.status, page.content_type) == (200, "text/html; charset=utf-8")
    assert page.body.decode().count('class="text"') == len(TEXTS)


def test_predictions_are_answered_between_the_passes_of_an_explanation(
    explained_site: Site,
) -> None:
    long = {"inputs": ["hour " * 100] * 8, "n_steps": 100}
    with ThreadPoolExecutor(1) as pool:
        explanation = pool.submit(explain, explained_site, long)
        between = 0
        while not explanation.done():
            assert explained_site.server.predict(b"It works.").status == 200
            between += not explanation.done()
    assert explanation.result().status == 200
    assert between >= 5


def test_what_takes_too_long_is_refused_before_it_is_begun(explained_site: Site) -> None:
    everything = {"inputs": ["hour " * 60] * 3000, "n_steps": 100}
    answer = explain(explained_site, everything)
    assert answer.status == 413
    assert "send at most" in answer.json()["error"] or "n_steps" in answer.json()["error"]


def test_a_call_has_a_bound(bounded_site: Site) -> None:
    """Of many large requests at once some are told to come again; small ones are answered."""
    url = bounded_site.server.address
    headers = {"Content-Type": "application/json"}
    large = json.dumps(["hour " * 100] * 2000).encode()

    def send(body: bytes) -> tuple[int, str | None]:
        key = bounded_site.server.token("inference")
        request = urllib.request.Request(
            url, body, {**headers, "Authorization": f"Bearer {key}"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, None
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Retry-After"]

    sent = [functools.partial(send, large)] * 7 + [functools.partial(send, b'"It works."')]
    *answers, small = bounded_site.together(sent)  # type: ignore[arg-type]
    assert small == (200, None)
    assert set(answers) <= {(200, None), (503, "1"), (413, None)}


def test_no_text_is_logged(explained_site: Site) -> None:
    assert "שלום" not in explained_site.logs()


def test_without_captum_the_load_fails_with_the_command(
    explained_archive: Path, start_site: Callable[..., Site]
) -> None:
    with pytest.raises(ServerError) as caught:
        start_site(explained_archive.parent, explained_archive, python=str(SERVE_PYTHON))
    assert "pip install 'captum" in str(caught.value)
    assert "captum_explanation false" in str(caught.value)


def test_kserves_address(explained_site: Site) -> None:
    url = f"http://127.0.0.1:{explained_site.port('inference')}/v1/models/under_test:explain"
    body = json.dumps({"instances": TEXTS[:2]}).encode()
    headers = {"Content-Type": "application/json"}
    answer = explained_site.server.request("POST", url, "inference", body=body, headers=headers)
    assert answer.status == 200, answer
    assert [list(each) for each in answer.json()["predictions"]] == [["answer", "explanations"]] * 2
