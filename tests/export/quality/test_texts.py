"""Which texts a precision is tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.helpers import config_for, refused
from torchscript_bundle.export.quality.texts import read_lines, spread


def numbered(folder: Path, content: bytes | None, **settings: str) -> list[tuple[int, str]]:
    if content is not None:
        (folder / "texts.txt").write_bytes(content)
    config = config_for(folder, folder, calibration_file="texts.txt", **settings)
    return [(line.number, line.text) for line in read_lines(config)]


def test_lines_are_told_by_their_numbers_and_taken_once(tmp_path: Path) -> None:
    content = '\ufeffIt works.\n\n  It works. \n{"text": "x"}\n'.encode()
    assert numbered(tmp_path, content) == [(1, "It works."), (4, '{"text": "x"}')]


def test_a_text_is_not_shown_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("secret")
    config = config_for(tmp_path, tmp_path, calibration_file="texts.txt")
    assert "secret" not in repr(read_lines(config))


def test_samples_stand_in_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "sample_text0.txt").write_text("One\nand a second line")
    (tmp_path / "sample_text1.txt").write_text("Two")
    config = config_for(tmp_path, tmp_path, artifacts_dir=str(tmp_path))
    assert [line.text for line in read_lines(config)] == ["One\nand a second line", "Two"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["texts.txt cannot be read (No such file or directory)", "one JSON request, a"]),
        (b"\xff\xfe", ["cannot be read (it is not UTF-8)"]),
        (b" \n\n", ["texts.txt holds no text", "one text, or one JSON request, a line"]),
    ],
)
def test_refuses_a_file_without_texts(
    tmp_path: Path, content: bytes | None, words: list[str]
) -> None:
    with refused("calibration_file: ", *words):
        numbered(tmp_path, content)


def test_of_many_as_many_as_wanted_are_taken_evenly() -> None:
    assert spread(4, 10) == [0, 1, 2, 3]
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(0, 4) == []
