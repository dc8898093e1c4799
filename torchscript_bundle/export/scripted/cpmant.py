"""The attention mask of CPM-Ant.

`CpmAntModel._prepare_attention_mask` lists positions by `list(range(...))`: a trace holds those of
its example.
"""

from functools import partial

import torch

from torchscript_bundle.export.scripted.functions import modules_with


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place."""
    for maker in modules_with(model, "_prepare_attention_mask"):
        maker._prepare_attention_mask = partial(attention_mask, maker.prompt_length)


def attention_mask(
    prompt_length: int,
    input_ids: torch.Tensor,
    span: torch.Tensor,
    context: torch.Tensor,
    length: torch.Tensor,
) -> torch.Tensor:
    """`_prepare_attention_mask`: return whether each token sees each other, `[batch, all, all]`.

    Args:
        prompt_length: tokens that the model puts before each row; `all` counts them too.
        input_ids: `[batch, all]`.
        span: which tokens may see each other, `[batch, all]`.
        context: 1 for a token that all others see, `[batch, all]`.
        length: tokens of each row, padded on the left, `[batch]`.
    """
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    earlier = positions <= positions[:, None]
    sees = context[:, None, :] | (context[:, :, None].logical_not() & earlier[None])
    sees = sees & (span[:, None, :] == span[:, :, None])
    from_end = positions[: input_ids.shape[1] - prompt_length].flip(0)
    is_token = from_end[None] < length[:, None]
    is_token = torch.cat((torch.ones_like(is_token[:, :1]).expand(-1, prompt_length), is_token), 1)
    return is_token[:, :, None] & is_token[:, None, :] & sees
