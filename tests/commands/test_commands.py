"""The command `torchscript-bundle`: what it lists and refuses, and what `serve` makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.export.adopt.helpers import OLD
from tests.export.helpers import copy, listing
from torchscript_bundle.__main__ import main, make_parser
from torchscript_bundle.commands import COMMANDS
from torchscript_bundle.commands.building import make_archive
from torchscript_bundle.commands.command import read_demands
from torchscript_bundle.export.archive_writer import writing_archive
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.server import Demands, Ports, advice


def run(*words: str) -> int:
    """The exit status of the command."""
    try:
        return main(words)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_help_says_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    listed = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert f" {name} {command.help}" in listed
        assert run(name, "--help") == 0
        assert f"usage: torchscript-bundle {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["exprot"], "'exprot'"),
        (["export", "--outptu", "x"], "--outptu"),
        (["start", "--workers", "0"], "'0' is no whole number from 1 on"),
        (["start", "--inference-port", "http"], "'http'"),
        (["stop", "now"], "unrecognized arguments: now"),
    ],
)
def test_wrong_use_gets_one_sentence(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert says in err and "--help` shows what it takes" in err


@pytest.mark.parametrize("before", [True, False])
def test_the_folders_of_a_server_stand_before_or_after_the_command(
    before: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--run-dir", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{")
    assert run(*folder, "status") if before else run("status", *folder) == 1
    assert str(tmp_path / "run" / "state.json") in capsys.readouterr().err


def test_adopting_does_not_begin_where_it_would_replace_the_old_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "bert_sequence.mar"
    shutil.copy(OLD / old.name, old)
    before = listing(tmp_path)
    folders = ("--model-store", str(tmp_path), "--folder", str(tmp_path / "adopted"))
    assert run("adopt", str(old), *folders) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{old} would be replaced by what it is adopted as" in said.err
    assert listing(tmp_path) == before


def test_messages_name_what_the_reader_can_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for makefile, said in (
        (advice.MAKEFILE, "`make serve`"),
        (tmp_path / "none", "`torchscript-bundle serve`"),
    ):
        monkeypatch.setattr(advice, "MAKEFILE", makefile)
        assert run("status", "--run-dir", str(tmp_path)) == 3
        assert said in capsys.readouterr().err


DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("words", "environment", "demands"),
    [
        ([], {}, Demands()),
        (["--sha256", f"sha256:{DIGEST.upper()}"], {}, Demands(frozenset({DIGEST}))),
        ([], {"MODEL_SHA256": f"{DIGEST} {'0' * 64}"}, Demands(frozenset({DIGEST, "0" * 64}))),
        (["--sha256", DIGEST], {"MODEL_SHA256": "0" * 64}, Demands(frozenset({DIGEST}))),
        (["--signed-by", "a.pub"], {}, Demands(signed_by=Path("a.pub"))),
        ([], {"MODEL_SIGNED_BY": "b.pub"}, Demands(signed_by=Path("b.pub"))),
    ],
)
def test_what_is_demanded_of_an_archive(
    words: list[str],
    environment: dict[str, str],
    demands: Demands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for command in ("serve", "start"):
        assert read_demands(make_parser().parse_args([command, *words])) == demands


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        (["--sha256", DIGEST[1:]], {}, "is no sha256; give the 64 hexadecimal digits"),
        ([], {"MODEL_SHA256": " "}, "MODEL_SHA256 is empty; give it a value, or unset it"),
        ([], {"MODEL_SIGNED_BY": ""}, "MODEL_SIGNED_BY is empty"),
        ([], {"MODEL_SIGNED_BY": "/no/keys"}, "/no/keys cannot be read (No such file"),
        (["--sha256", DIGEST], {}, f"not {DIGEST}; fetch the right one"),
    ],
)
def test_nothing_starts_where_a_demand_is_wrong_or_not_met(
    words: list[str],
    environment: dict[str, str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with writing_archive(tmp_path / "reviews.mar") as target:
        target.add("bundle.json", b"{}")
    ports = [f"--{name.replace('_', '-')}-port={20000 + n}" for n, name in enumerate(vars(Ports()))]
    assert run("start", "reviews.mar", *words, *ports) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and says in line


def test_sign_writes_a_signature_beside_the_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, key = tmp_path / "reviews.mar", tmp_path / "key.pem"
    archive.write_bytes(b"PK")
    assert run("sign", str(archive), "--key", str(key)) == 1
    assert f"error: {key} cannot be read (No such file" in capsys.readouterr().err
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
    assert run("sign", str(archive), "--key", str(key)) == 0
    assert len((tmp_path / "reviews.mar.sig").read_bytes()) == 64
    assert f"{archive}.sig: signature of {archive}" in capsys.readouterr().out


def test_serve_makes_an_archive_where_there_is_none_or_one_of_another_config(
    checkpoint: Callable[[str], Path], artifact: Callable[[str], Path], tmp_path: Path
) -> None:
    made = copy(artifact("bert"), tmp_path / "Transformer_model")
    config = checkpoint("bert") / "setup_config.json"
    store = tmp_path / "store"
    exported = (made / "bundle.json").stat().st_mtime_ns

    archive = make_archive(config, made, store)
    packed = archive.stat().st_mtime_ns
    assert make_archive(config, made, store) == archive
    assert archive.stat().st_mtime_ns == packed, "it was packed again for nothing"
    assert (made / "bundle.json").stat().st_mtime_ns == exported, "it was exported for nothing"

    other = tmp_path / "setup_config.json"
    settings = {**json.loads(config.read_text()), "archive_name": archive.stem}
    other.write_text(json.dumps({**settings, "model_name": "./gone"}))
    with pytest.raises(ExportError, match="gone"):
        make_archive(other, made, store)
