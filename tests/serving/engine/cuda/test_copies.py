"""What comes back from a card is what was there, whatever is written there next."""

from __future__ import annotations

import torch

from tests.serving.engine.cuda.helpers import StandIn
from torchscript_bundle.serving.engine.cuda.copies import Fetch, to_card, to_host


def test_arguments_arrive_as_they_were() -> None:
    card = StandIn()
    arguments = tuple(torch.arange(6).reshape(2, 3) + 10 * at for at in range(3))
    host = to_host(card, arguments)
    assert (host.shape, host.dtype) == ((3, 2, 3), torch.int64)
    arrived = to_card(card, host)
    assert len(arrived) == 3
    assert all(torch.equal(*pair) for pair in zip(arrived, arguments, strict=True))
    assert all(each.is_contiguous() for each in arrived)


def test_outputs_of_any_shape_and_dtype_come_back() -> None:
    static = torch.arange(24.0).reshape(2, 4, 3)
    outputs = [
        (static[0], static[0, :, 1], torch.tensor(7)),
        (static[1, 1:3], static[1, :0, 0], torch.tensor([[True, False]])),
        (static[0, 1].to(torch.float16), static[1, 2, 2], torch.tensor([9, 8])),
    ]
    expected = [tuple(each.clone() for each in row) for row in outputs]
    fetch = Fetch(StandIn(), outputs)
    static.fill_(-1)
    for found, wanted in zip(fetch.rows(), expected, strict=True):
        for one, other in zip(found, wanted, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert torch.equal(one, other)


def test_there_is_one_copy_for_each_dtype() -> None:
    card = StandIn()
    Fetch(card, [(torch.zeros(2), torch.ones(3, 3)), (torch.zeros(4), torch.tensor([1]))])
    assert card.hosts == [((15,), torch.float32), ((1,), torch.int64)]


def test_no_outputs_need_no_copy() -> None:
    assert Fetch(StandIn(), []).rows() == []
