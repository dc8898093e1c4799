"""What a server leaves for later commands, without starting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchscript_bundle.server import Ports, Server, ServerError
from torchscript_bundle.server.state import State, load_state, save_state

STATE = State(
    model="a",
    ports=Ports(inference=1),
    temp=Path("/tmp/a"),
    python="python",
    java_home=Path("/java"),
    workers=2,
    threads=3,
    cores=6,
    optimize_for="throughput",
    batch_size=32,
    max_batch_delay=10,
    log_start=4,
)


def test_the_last_word_on_a_property_counts(tmp_path: Path) -> None:
    (tmp_path / "config.properties").write_text("# a=0\na=1\nb = 2\n\na=3\n")
    assert Server(tmp_path, tmp_path).properties() == {"a": "3", "b": "2"}


def test_a_state_reads_back_the_same(tmp_path: Path) -> None:
    save_state(STATE, tmp_path)
    assert Server(tmp_path, tmp_path).state == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("key", ["workers", "ports", "log_start"])
def test_a_state_that_lacks_a_key_is_damaged(tmp_path: Path, key: str) -> None:
    save_state(STATE, tmp_path)
    file = tmp_path / "state.json"
    file.write_text(file.read_text().replace(f'"{key}"', '"other"'))
    with pytest.raises(ServerError, match="damaged"):
        load_state(tmp_path)


def test_plan_is_told_in_words() -> None:
    assert STATE.in_words() == (
        "2 worker(s) with 3 thread(s) each on 6 core(s), for throughput: up to 32 requests a call, "
        "which wait 10 ms"
    )
