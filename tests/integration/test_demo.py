"""The shipped config and the demo model, from two workers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import pipeline

from tests.integration.conftest import Site
from tests.integration.helpers import wait_until
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export
from torchscript_bundle.server import ROOT


@pytest.fixture(scope="module")
def demo_site(tmp_path_factory: pytest.TempPathFactory, start_site: Callable[..., Site]) -> Site:
    """A server with the demo model, from the shipped config."""
    if not (ROOT / "demo" / "model" / "model.safetensors").is_file():
        pytest.fail("the demo model is not there; `make test` makes it first")
    folder = tmp_path_factory.mktemp("demo")
    config = load_config(ROOT / "setup_config.json")
    export(config, folder / "Transformer_model")
    archive = pack(folder / "Transformer_model", folder / "model_store", config)
    return start_site(ROOT / "demo" / "model", archive, workers=2)


def test_held_out_sentences_get_the_pipelines_scores(demo_site: Site) -> None:
    """100 sentences of the demo's held-out split, through REST, within 1e-5."""
    with (ROOT / "demo" / "model" / "held_out.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:100]
    assert len(texts) == 100
    classify = pipeline(
        "text-classification", str(demo_site.checkpoint), truncation=True, max_length=150
    )
    body = [json.dumps(texts[at : at + 50]).encode() for at in (0, 50)]
    answers = [
        each
        for half in body
        for each in demo_site.server.predict(half, content_type="application/json").json()
    ]
    wanted = [classify(text)[0] for text in texts]
    assert [each["label"] for each in answers] == [each["label"] for each in wanted]
    assert [each["score"] for each in answers] == pytest.approx(
        [each["score"] for each in wanted], abs=1e-5
    )


def test_reviews_that_were_written_apart_get_their_labels(demo_site: Site) -> None:
    """As many of them as demo/README.md says, but for those on the edge."""
    with (ROOT / "demo" / "unseen.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    answers = [demo_site.server.predict(row["text"].encode()).json() for row in rows]
    right = sum(each["label"] == row["label"] for each, row in zip(answers, rows, strict=True))
    assert len(rows) == 160
    assert right >= 124


def test_the_samples_get_their_labels(demo_site: Site) -> None:
    folder = ROOT / "Seq_classification_artifacts"
    answers = [
        demo_site.server.predict(path.read_bytes()).json()["label"]
        for path in sorted(folder.glob("sample_text*.txt"))
    ]
    assert answers == ["POSITIVE", "NEGATIVE", "POSITIVE"]


def test_two_workers_hold_weights_once(demo_site: Site) -> None:
    def ready() -> bool:
        workers = demo_site.server.describe()[0]["workers"]
        return {worker["status"] for worker in workers} == {"READY"}

    wait_until(ready, "a worker is not ready")
    pids = demo_site.server.worker_pids
    maps = [Path(f"/proc/{pid}/maps").read_text().splitlines() for pid in pids]
    shared = [{line.split()[4] for line in lines if "shared_weights_" in line} for lines in maps]
    assert [len(inodes) for inodes in shared] == [1, 1]
    assert shared[0] == shared[1]
    assert demo_site.server.state.in_words().startswith("2 worker(s) with ")
    assert demo_site.server.predict(b"It works.").status == 200
