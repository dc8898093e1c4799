"""What a server checks and reads of an archive before it starts."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.tampering import CODE, HANDLER, TAMPERED, changed, removed, resum, rewrite, swap_labels
from torchscript_bundle.export.archive_writer import writing_archive
from torchscript_bundle.server import Demands
from torchscript_bundle.server.archives import (
    ArchivedBatching,
    ArchiveError,
    open_archive,
    read_batching,
    read_config,
    read_unpacked_samples,
)
from torchscript_bundle.serving.artifact import CONFIG_FILE, SAMPLES_FILE
from torchscript_bundle.sums import MANIFEST, SUMS_FILE, SUMS_KEY, read_sums

FILES = {
    MANIFEST: json.dumps({"model": {"handler": HANDLER}, SUMS_KEY: SUMS_FILE}),
    "bundle.json": json.dumps({"labels": ["NEGATIVE", "POSITIVE"]}),
    CONFIG_FILE: '{"batch_size": 3}',
    "model-config.yaml": "batchSize: 3\n",
    SAMPLES_FILE: '["It works.", "Käse"]',
    HANDLER: "print('a handler')\n",
    CODE: "print('code')\n",
}
REMEDY = "; remove the archive, and make it or fetch it again"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small archive in the form of ours."""
    path = tmp_path / "reviews.mar"
    with writing_archive(path) as target:
        for name, text in FILES.items():
            target.add(name, text.encode())
    return path


def unpack(archive: Path, folder: Path, demands: Demands | None = None) -> None:
    with open_archive(archive, demands or Demands()) as opened:
        opened.unpack(folder)


def unpacked(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_unpacked_files_are_those_that_were_packed(made: Path, tmp_path: Path) -> None:
    unpack(made, tmp_path / "out")
    files = unpacked(tmp_path / "out")
    assert set(read_sums(files.pop(SUMS_FILE))) == set(files)
    assert files == FILES
    assert read_config(made) == FILES[CONFIG_FILE]


def test_the_digests_are_those_of_sha256sum(made: Path, tmp_path: Path) -> None:
    unpack(made, tmp_path / "out")
    command = ["sha256sum", "--check", "--strict", SUMS_FILE]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK\n") == len(FILES)


@pytest.mark.parametrize("done", TAMPERED)
def test_a_tampered_archive_is_refused_in_a_sentence(made: Path, tmp_path: Path, done: str) -> None:
    tamper, says = TAMPERED[done]
    tamper(made)
    with pytest.raises(ArchiveError) as refusal:
        unpack(made, tmp_path / "below" / "out")
    sentence = str(refusal.value)
    assert sentence.startswith(f"{made} ") and sentence.endswith(REMEDY)
    assert says in sentence and "\n" not in sentence
    escaped = [path for path in tmp_path.rglob("*") if "escaped" in path.name]
    assert escaped == []
    before_unpacking = "the sha256 of" not in sentence and "CRC" not in sentence
    assert (tmp_path / "below").exists() is not before_unpacking


def test_whoever_makes_the_digests_anew_is_found_by_the_archives_own(
    made: Path, tmp_path: Path
) -> None:
    good = hashlib.sha256(made.read_bytes()).hexdigest()
    unpack(made, tmp_path / "good", Demands(frozenset({good, "0" * 64})))
    changed("bundle.json", swap_labels)(made)
    resum(made)
    unpack(made, tmp_path / "unseen")
    bad = hashlib.sha256(made.read_bytes()).hexdigest()
    with pytest.raises(ArchiveError) as refusal:
        unpack(made, tmp_path / "out", Demands(frozenset({good})))
    assert str(refusal.value) == (
        f"{made} is not the archive that is demanded: its sha256 is {bad}, not {good}; fetch the "
        "right one, or correct --sha256 or MODEL_SHA256"
    )
    assert not (tmp_path / "out").exists()


def older(made: Path) -> None:
    """As archives were before they had digests."""
    removed(SUMS_FILE)(made)
    rewrite(made, {MANIFEST: json.dumps({"model": {"handler": HANDLER}}).encode()})


def test_an_older_archive_is_served_with_a_line_that_says_so(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older(made)
    unpack(made, tmp_path / "out")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "without digests of its files" in record.message and "\n" not in record.message
    assert unpacked(tmp_path / "out")[CODE] == FILES[CODE]


def test_an_older_archive_is_covered_by_its_own_digest(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older(made)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    unpack(made, tmp_path / "out", Demands(frozenset({digest})))
    assert caplog.records == []


def test_an_archive_that_changes_while_it_is_read_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copy(made, tmp_path / "copy")
    with open_archive(made) as opened:
        shutil.copy(tmp_path / "copy", made)
        with pytest.raises(ArchiveError, match="was changed while it was read; start again"):
            opened.unpack(tmp_path / "out")


def test_files_that_stand_in_each_others_way(made: Path, tmp_path: Path) -> None:
    with writing_archive(made) as target:
        target.add(MANIFEST, b"{}")
        target.add("a", b"")
        target.add("a/b", b"")
    with pytest.raises(ArchiveError, match=r"is damaged \(File exists: 'a/b'\)"):
        unpack(made, tmp_path / "out")


def test_changed_bytes_are_refused_or_change_nothing(made: Path, tmp_path: Path) -> None:
    """Any bytes, those of the zip's own tables too."""
    chance = random.Random(0)
    good = made.read_bytes()
    refused = 0
    for trial in range(300):
        raw = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 5))):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        made.write_bytes(raw)
        try:
            unpack(made, tmp_path / str(trial))
        except ArchiveError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            files = unpacked(tmp_path / str(trial))
            assert {name: files[name] for name in FILES} == FILES
    assert 200 < refused < 300


def test_an_archive_that_is_cut_behind_a_zip_within_it_is_no_older_one(
    made: Path, tmp_path: Path
) -> None:
    """A traced module is a zip as well, whose end can be taken for the archive's."""
    with zipfile.ZipFile(tmp_path / "module.pt", "w") as module:
        module.writestr("code.py", b"")
    with writing_archive(made) as target:
        target.add(MANIFEST, b"{}")
        target.add("traced_model.pt", (tmp_path / "module.pt").read_bytes())
        target.add("weights", b"0" * 1000)
    made.write_bytes(made.read_bytes().partition(b"0" * 1000)[0])
    with pytest.raises(ArchiveError, match=r"is damaged, or no archive: it has no MAR-INF/MANI"):
        unpack(made, tmp_path / "out")


def test_no_archive_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "nosuch.mar", tmp_path):
        with pytest.raises(ArchiveError, match="no such archive; `make archive`"):
            unpack(path, tmp_path / "out")


def test_batches_are_as_the_config_says_or_as_they_were(tmp_path: Path) -> None:
    assert read_batching(tmp_path) == ArchivedBatching("latency", batch_size=8, max_batch_delay=5)
    (tmp_path / CONFIG_FILE).write_text('{"batch_size": 3, "other": 1}')
    assert read_batching(tmp_path) == ArchivedBatching("latency", batch_size=3, max_batch_delay=5)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"optimize_for": "glory"}'])
def test_a_config_that_says_nothing_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(ArchiveError, match=r"setup_config\.json"):
        read_batching(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", "[" * 100_000])
def test_samples_that_are_none_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / SAMPLES_FILE).write_text(text)
    with pytest.raises(ArchiveError, match=r"samples\.json"):
        read_unpacked_samples(tmp_path)


@pytest.mark.parametrize(
    "text", ["a  b\n", f"{'0' * 64} b\n", f"{'0' * 64}  b", f"{'0' * 64}  b\n" * 2, "\n"]
)
def test_only_sorted_digests_are_read(text: str) -> None:
    assert read_sums(f"{'0' * 64}  a b\n{'1' * 64}  c\n") == {"a b": "0" * 64, "c": "1" * 64}
    with pytest.raises(ValueError, match="digests"):
        read_sums(text)


def test_folders_in_an_older_archive_are_not_in_the_way(made: Path, tmp_path: Path) -> None:
    older(made)
    with zipfile.ZipFile(made, "a") as target:
        target.writestr("torchscript_bundle/", b"")
    unpack(made, tmp_path / "out")
    assert unpacked(tmp_path / "out") == {
        **FILES,
        MANIFEST: '{"model": {"handler": "' + HANDLER + '"}}',
    }
