"""Files of keys: what they open, and what is wrong with them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from torchscript_bundle.server import ServerError
from torchscript_bundle.supervisor.keys import VARIABLE, Keys, open_keys

FIRST = {"name": "team-a", "key": "first-" + "x" * 20, "scope": "inference"}
SECOND = {"name": "deploy", "key": "second-" + "x" * 20, "scope": "management"}


def write(path: Path, *keys: object) -> Path:
    path.write_text(json.dumps(keys))
    return path


def bearer(key: dict[str, str]) -> str:
    return f"Bearer {key['key']}"


def test_each_key_opens_its_scope_alone(tmp_path: Path) -> None:
    keys = Keys(write(tmp_path / "keys.json", FIRST, SECOND))
    assert keys.owner(bearer(FIRST), "inference") == "team-a"
    assert keys.owner(bearer(SECOND), "management") == "deploy"
    assert keys.owner(bearer(FIRST), "management") is None
    assert keys.owner(bearer(SECOND), "inference") is None


@pytest.mark.parametrize(
    "sent",
    ["", "Bearer", "Bearer ", FIRST["key"], f"Basic {FIRST['key']}", f"{bearer(FIRST)}x", "\udce9"],
)
def test_what_is_no_key_opens_nothing(sent: str, tmp_path: Path) -> None:
    assert Keys(write(tmp_path / "keys.json", FIRST)).owner(sent, "inference") is None


def test_the_scheme_may_be_in_any_case(tmp_path: Path) -> None:
    keys = Keys(write(tmp_path / "keys.json", FIRST))
    assert keys.owner(f"bearer {FIRST['key']}", "inference") == "team-a"


def test_a_changed_file_is_read_again_and_a_damaged_one_leaves_the_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.json", FIRST)
    keys = Keys(path)
    assert not keys.refresh()
    write(path, {**SECOND, "scope": "inference"})
    os.utime(path, ns=(1, 1))
    assert keys.refresh()
    assert keys.owner(bearer(FIRST), "inference") is None
    assert keys.owner(bearer(SECOND), "inference") == "deploy"
    path.write_text("{")
    with pytest.raises(ServerError, match="is no JSON"):
        keys.refresh()
    assert keys.owner(bearer(SECOND), "inference") == "deploy"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no JSON"),
        ("[]", "should be a list of keys"),
        ('{"name": "a"}', "should be a list of keys"),
        (json.dumps([{**FIRST, "more": 1}]), "should have a name, a key and a scope"),
        (json.dumps([FIRST, {**FIRST, "name": "a b"}]), "entry 1: the name"),
        (json.dumps([{**FIRST, "key": "short"}]), "at least 16 ASCII characters"),
        (json.dumps([{**FIRST, "key": "é" * 20}]), "at least 16 ASCII characters"),
        (json.dumps([{**FIRST, "scope": "all"}]), "the scope should be one of inference"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_and_never_quoted(
    content: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ServerError, match=said) as refused:
        Keys(path)
    assert str(path) in str(refused.value)
    assert "first-" not in str(refused.value)


def test_one_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    open_keys(None, tmp_path, required=True)
    path = tmp_path / "keys.json"
    made = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    keys = open_keys(None, tmp_path, required=True)
    assert path.read_text() == made
    assert keys.owner(f"Bearer {json.loads(made)[0]['key']}", "inference") == "default"


def test_the_environment_may_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps([FIRST]))
    assert open_keys(None, tmp_path, required=True).owner(bearer(FIRST), "inference") == "team-a"
    assert not list(tmp_path.iterdir())


def test_without_keys_none_are_made(tmp_path: Path) -> None:
    assert not open_keys(None, tmp_path, required=False).required
    assert not list(tmp_path.iterdir())
