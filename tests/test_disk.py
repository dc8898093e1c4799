"""What is said where a folder cannot be written to."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import zeros

from tests.disks import disk, fill
from torchscript_bundle.disk import check_writable, lack_of_room, not_written, writing


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_there(tmp_path: Path) -> None:
    with (
        disk(tmp_path / "full", 64) as place,
        pytest.raises(ValueError, match="room") as caught,
        writing(place / "below", "go elsewhere", ValueError, needed=1_234_000_000),
    ):
        fill(place)
        (place / "more").write_bytes(bytes(10))
    assert re.fullmatch(
        rf"{place}/below could not be written \(No space left on device\): about 1\.23 GB are "
        r"needed, 0 MB are free; make room there, or go elsewhere",
        str(caught.value),
    )


def test_other_errors_name_the_file(tmp_path: Path) -> None:
    error = OSError(errno.EACCES, os.strerror(errno.EACCES), "/there/file")
    assert not_written(error, tmp_path) == "/there/file could not be written (Permission denied); "


def test_a_folder_is_made_and_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", 0o700)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("options", [(), ("ro",)])
def test_a_full_or_read_only_folder_is_not_writable(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with disk(tmp_path / "small", 32, *options) as place, pytest.raises(OSError):
        check_writable(place)


def test_libraries_in_rust_are_understood(tmp_path: Path) -> None:
    """The words that safetensors and tokenizers really have for a full disk."""
    tokenizer = Tokenizer(WordLevel({str(at): at for at in range(9999)}, unk_token="0"))
    with disk(tmp_path / "full", 16) as place:
        for save in (
            lambda: save_file({"a": zeros(9999)}, place / "model.safetensors"),
            lambda: tokenizer.save(str(place / "tokenizer.json")),
        ):
            with pytest.raises(Exception) as caught:
                save()
            found = lack_of_room(caught.value)
            assert found is not None
            assert found.errno == errno.ENOSPC
            for left in place.iterdir():
                left.unlink()
    assert lack_of_room(ValueError("no room")) is None
