"""A text that the model cannot compute, beside others in one call of a live worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests import tiny
from tests.integration.conftest import BATCH, Site
from tests.integration.helpers import close
from tests.serving.raising.unknown import WORD, teach_word
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config

TEXTS = [f"It works as described, {number} of us said" for number in range(BATCH - 1)]


def test_worker_and_neighbours_outlive_it(
    tmp_path: Path, build: Callable[..., Path], start_site: Callable[..., Site]
) -> None:
    checkpoint = tiny.save_checkpoint(tmp_path / "checkpoint")
    build(tmp_path, checkpoint, max_length=64, batch_size=BATCH, max_batch_delay=20)
    taught = teach_word(tmp_path / "Transformer_model", tmp_path / "taught")
    config = load_config(tmp_path / "setup_config.json")
    site = start_site(checkpoint, pack(taught, tmp_path / "taught_store", config))
    server = site.server
    expected = [server.predict(text.encode()).json() for text in TEXTS]
    workers = server.worker_pids
    bodies = [TEXTS[0], f"Bad {WORD} soup", *TEXTS[1:]]
    first, failed, *others = site.in_one_call(
        [partial(server.predict, body.encode()) for body in bodies]
    )
    assert (failed.status, failed.json()) == (
        500,
        {"error": "the server could not answer this request"},
    )
    for answer, value in zip((first, *others), expected, strict=True):
        assert answer.status == 200
        assert close(answer.json(), value)
    assert server.worker_pids == workers
    assert WORD not in site.logs()
