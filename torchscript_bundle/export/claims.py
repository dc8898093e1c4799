"""Claims about the shapes that a module takes, and the shapes that they are tried at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchscript_bundle.jit.verify import Shape

BATCHES = (1, 2, 5, 8)
#: For pairs, where single texts were tried at all of the above.
PAIR_BATCHES = (1, 5)
LENGTHS = (8, 16, 33)


@dataclass(frozen=True)
class Claim:
    """Shapes that a module takes: any number of rows or one, any length or only traced ones."""

    dynamic_batch: bool
    dynamic_length: bool

    def __str__(self) -> str:
        batch = "any batch" if self.dynamic_batch else "batch 1"
        return f"{batch}, {'any length' if self.dynamic_length else 'traced lengths only'}"

    def covers(self, shape: Shape, lengths: Sequence[int]) -> bool:
        """Return whether a shape is claimed, given the traced lengths."""
        return (self.dynamic_batch or shape.batch == 1) and (
            self.dynamic_length or shape.length in lengths
        )


#: Strongest first. Serving pads to a static length, and runs a static batch row by row.
CLAIMS = (Claim(True, True), Claim(True, False), Claim(False, True), Claim(False, False))


def grid(
    max_length: int,
    traced_lengths: Sequence[int],
    shortest: int,
    batches: Sequence[int] = BATCHES,
) -> list[Shape]:
    """Return every shape to try a claim at, cheapest first; `shortest` is tried unpadded."""
    lengths = {length for length in LENGTHS if length <= max_length}
    lengths |= {max(4, max_length // 2), max_length, *traced_lengths}
    shapes = [Shape(batch, shortest, False) for batch in batches if shortest < min(lengths)]
    for length in sorted(lengths):
        shapes += [Shape(batch, length, padded) for batch in batches for padded in (False, True)]
        shapes += [Shape(batch, length, True, spelled=True) for batch in (1, 2)]
    return shapes
