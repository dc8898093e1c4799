"""The options of `generate`. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor

#: A lower temperature is taken for 0, which takes the best token: logits divided by less could
#: become infinite in float32.
LEAST_TEMPERATURE = 1e-5


def check_options(
    max_new_tokens: int, temperature: float, top_k: int, top_p: float, repetition_penalty: float
) -> None:
    """Raise ValueError for an option out of its range."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    if not 0 <= temperature <= 100:
        raise ValueError(f"temperature must be from 0 (the best token) to 100, not {temperature}")
    if top_k < 0:
        raise ValueError(f"top_k must be at least 0 (which keeps all), not {top_k}")
    if not 0 <= top_p <= 1:
        raise ValueError(f"top_p must be from 0 (the best token) to 1, not {top_p}")
    # Logits are divided or multiplied by it: beyond these bounds they could become infinite.
    if not 0.01 <= repetition_penalty <= 100:
        raise ValueError(f"repetition_penalty must be from 0.01 to 100, not {repetition_penalty}")


def draw_numbers(rows: int, count: int, seeds: list[int] | None) -> Tensor:
    """Return float64 `[rows, count]`: a row's draws are those of `torch.rand` for its seed."""
    if seeds is None:
        return torch.rand([rows, count], dtype=torch.float64)
    if len(seeds) != rows:
        raise ValueError(f"{len(seeds)} seeds for {rows} rows: give one for each")
    drawn: list[Tensor] = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        drawn.append(torch.rand([count], dtype=torch.float64, generator=generator))
    return torch.stack(drawn)
