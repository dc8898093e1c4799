"""Which shapes a module may be claimed to take, and the grid that puts a claim to the trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchscript_bundle.jit.verify import Shape

BATCHES = (1, 2, 5, 8)
#: The same of pairs, where single texts have been tried at all of the above.
PAIR_BATCHES = (1, 5)
LENGTHS = (8, 16, 33)


@dataclass(frozen=True)
class Claim:
    """Which shapes a module takes.

    Attributes:
        dynamic_batch: any number of rows; else exactly one.
        dynamic_length: any length up to max_length; else only traced lengths.
    """

    dynamic_batch: bool
    dynamic_length: bool

    def __str__(self) -> str:
        batch = "any batch" if self.dynamic_batch else "batch 1"
        return f"{batch}, {'any length' if self.dynamic_length else 'traced lengths only'}"

    def covers(self, shape: Shape, lengths: Sequence[int]) -> bool:
        """Whether a shape is claimed, where `lengths` were traced."""
        return (self.dynamic_batch or shape.batch == 1) and (
            self.dynamic_length or shape.length in lengths
        )


#: Strongest first. What is static is padded to the traced length, or run row by row, when serving.
CLAIMS = (Claim(True, True), Claim(True, False), Claim(False, True), Claim(False, False))


def grid(
    max_length: int,
    traced_lengths: Sequence[int],
    shortest: int,
    batches: Sequence[int] = BATCHES,
) -> list[Shape]:
    """Every shape that a claim may be tried on, cheapest first.

    Args:
        max_length: longest row.
        traced_lengths: lengths that the config asks for.
        shortest: tokens of the shortest text; tried unpadded if it is below the other lengths.
        batches: numbers of rows.
    """
    lengths = {length for length in LENGTHS if length <= max_length}
    lengths |= {max(4, max_length // 2), max_length, *traced_lengths}
    shapes = [Shape(batch, shortest, False) for batch in batches if shortest < min(lengths)]
    for length in sorted(lengths):
        shapes += [Shape(batch, length, padded) for batch in batches for padded in (False, True)]
        shapes += [Shape(batch, length, True, spelled=True) for batch in (1, 2)]
    return shapes
