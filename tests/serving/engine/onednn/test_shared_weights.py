"""Workers that hold weights in memory once, in a file that all of them map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cpu import needs_bfloat16
from tests.disks import disk
from tests.serving.engine.onednn.helpers import function_of
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.serving.engine.onednn import Packed, pack
from torchscript_bundle.serving.engine.onednn.edited_graph import LARGE, FunctionWithWeights
from torchscript_bundle.serving.engine.onednn.shared_weights import share_weights

WIDTH = 768
EXAMPLES = [(torch.arange(6).view(2, 3),), (torch.arange(1).view(1, 1),)]


class Tower(torch.nn.Module):
    """A table and layers that are large enough to be shared, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(1000, WIDTH)
        self.large = torch.nn.Linear(WIDTH, WIDTH)
        self.small = torch.nn.Linear(WIDTH, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.small(torch.nn.functional.gelu(self.large(self.table(ids))))


def make(dtype: torch.dtype = torch.float32) -> Packed:
    with accept_deprecation(), torch.no_grad():
        module = torch.jit.trace(Tower().eval(), EXAMPLES[0], check_trace=False)
    packed = pack(module, {"forward": EXAMPLES}, dtype)
    assert packed.reason is None
    return packed


def weights(packed: Packed) -> list[torch.Tensor]:
    return list(function_of(packed).weights)


def mapped() -> int:
    """Bytes of files of shared weights that this process maps."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [line[0].split("-") for line in lines if "shared_weights_" in line[-1]]
    return sum(int(end, 16) - int(start, 16) for start, end in ranges)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)]
)
def test_answers_stay_equal_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    packed = make(dtype)
    own = weights(packed)
    expected = [packed(*arguments) for arguments in EXAMPLES]
    share_weights(packed.methods.values(), tmp_path)
    # The table and the large layer; the small one is its worker's own.
    assert [one is other for one, other in zip(own, weights(packed), strict=True)].count(True) == 1
    assert all(
        torch.equal(packed(*arguments), output)
        for arguments, output in zip(EXAMPLES, expected, strict=True)
    )


def test_second_worker_maps_the_file_of_the_first(tmp_path: Path) -> None:
    first, second = make(), make()
    expected = first(*EXAMPLES[0])
    share_weights(first.methods.values(), tmp_path)
    [file] = tmp_path.iterdir()
    written, before = file.stat().st_mtime_ns, mapped()
    share_weights(second.methods.values(), tmp_path)
    assert [each.stat().st_mtime_ns for each in tmp_path.iterdir()] == [written]
    assert mapped() - before == file.stat().st_size >= (WIDTH * WIDTH + 1000 * WIDTH) * 4
    assert torch.equal(second(*EXAMPLES[0]), expected)
    first_table, second_table = (weights(each)[-1] for each in (first, second))
    assert first_table.data_ptr() != second_table.data_ptr()
    assert torch.equal(first_table, second_table)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[LARGE] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "holds others"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has another size"),
        (lambda path: path.write_bytes(b""), "has another size"),
    ],
)
def test_file_of_other_weights_is_not_used(
    tmp_path: Path,
    damage: Callable[[Path], object],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    share_weights(make().methods.values(), tmp_path)
    [file] = tmp_path.iterdir()
    damage(file)
    packed = make()
    own = weights(packed)
    share_weights(packed.methods.values(), tmp_path)
    assert all(one is other for one, other in zip(own, weights(packed), strict=True))
    assert "weights are not shared with other workers" in caplog.text and said in caplog.text


def test_folder_that_cannot_be_written_leaves_weights_private(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    packed = make()
    share_weights(packed.methods.values(), tmp_path / "missing")
    assert "weights are not shared with other workers" in caplog.text
    assert packed(*EXAMPLES[0]).shape == (2, 3, 3)


def test_what_is_small_or_not_packed_is_left_alone(tmp_path: Path) -> None:
    small = FunctionWithWeights(lambda weight: weight, [torch.ones(3)])
    share_weights([lambda: None, small], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kilobytes", [16, 4000])
def test_a_full_disk_leaves_a_worker_its_own(
    tmp_path: Path, kilobytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first block and after it; what was written is taken away again."""
    packed = make()
    own, expected = weights(packed), packed(*EXAMPLES[0])
    with disk(tmp_path / "small", kilobytes) as place:
        share_weights(packed.methods.values(), place)
        assert list(place.iterdir()) == []
    assert "weights are not shared with other workers: [Errno 28] No space left" in caplog.text
    assert all(one is other for one, other in zip(own, weights(packed), strict=True))
    assert torch.equal(packed(*EXAMPLES[0]), expected)
