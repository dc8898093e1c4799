"""How requests share a batch: who has a row, who waits, and how long."""

from __future__ import annotations

import random

from tokenizers import Tokenizer, models

from torchscript_bundle.serving.api.sampling import Settings
from torchscript_bundle.serving.generation.answer import Answer, Piece
from torchscript_bundle.serving.generation.request_queue import (
    BEGUN_SMALL,
    READING_SECONDS,
    ROUND_SECONDS,
    WRITING_SHARE,
    Limits,
    NextBatch,
    QueuedRequest,
    RequestQueue,
)
from torchscript_bundle.serving.text.detokenizer import Detokenizer

LIMITS = Limits(rows=8, tokens=800)
TOKENIZER = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))


def answer(prompt: int = 5, most: int = 95) -> Answer:
    spelling = Detokenizer(TOKENIZER, [], clean_up=False)
    return Answer([0] * prompt, Settings(), most, frozenset(), spelling, {})


def request(*answers: Answer) -> QueuedRequest:
    return QueuedRequest(list(answers), streamed=False, deadline=float("inf"))


def write(answer: Answer) -> None:
    answer.pieces.append(Piece(0, "", 0.0, False))
    if len(answer.pieces) == answer.most:
        answer.reason = "length"


class Batch:
    """Stands in for a scheduler: its time, its running answers, its pace of reading prompts."""

    def __init__(self, limits: Limits = LIMITS, reading: float = 0.0) -> None:
        self.queue, self.limits = RequestQueue(limits.rows), limits
        self.now, self.reading, self.debt = 100.0, reading, 0.0
        self.running: list[Answer] = []
        self.paused: list[Answer] = []

    def step(self, seconds: float = 0.05) -> list[Answer]:
        """The answers that get a token now."""
        self.queue.forget_done()
        self.running = [each for each in self.running if not each.done]
        self.queue.end_turn(self.now, frozenset(self.running))
        begun = [*self.running, *self.paused]
        debt, self.debt = self.debt > 0, max(0.0, self.debt - seconds)
        chosen = NextBatch(
            self.limits,
            begun,
            _places,
            lambda each: self.reading * len(each.prompt),
            rest=debt and bool(self.running),
        )
        self.queue.fill(chosen)
        self.paused = [each for each in begun if each not in chosen.taken]
        reading = sum(self.reading * len(each.prompt) for each in chosen.taken if not each.pieces)
        self.now += seconds + reading
        self.debt += WRITING_SHARE * reading
        self.running = list(chosen.taken)
        for each in self.running:
            write(each)
        return self.running


def _places(answer: Answer) -> tuple[int, int]:
    return 0, len(answer.prompt) + answer.most


def test_one_text_has_a_row_at_once_beside_a_list_of_many() -> None:
    batch = Batch()
    batch.queue.add(request(*(answer() for _ in range(64))))
    for _ in range(5):
        assert len(batch.step()) == LIMITS.rows
    before = batch.running
    one = answer(most=3)
    batch.queue.add(request(one))
    assert one in batch.step()
    assert len(set(batch.running) & set(before)) == LIMITS.rows - 1
    batch.step()
    batch.step()
    assert one.done
    # Who made way for it goes on, before any other text of the list begins.
    assert set(batch.step()) == set(before)


def test_requests_have_equal_parts_whatever_their_number_of_texts() -> None:
    batch = Batch()
    lists = [request(*(answer() for _ in range(size))) for size in (64, 20, 3)]
    for each in lists:
        batch.queue.add(each)
    for _ in range(3):
        batch.step()
    rows = [sum(a in batch.running for a in each.answers) for each in lists]
    assert rows == [3, 3, 2]


def test_every_request_has_a_turn_within_a_round() -> None:
    """Also in the middle of a crowd that came before it, each for long."""
    for crowd in (10, 60):
        batch = Batch(Limits(rows=8, tokens=8 * 100))
        waited = []
        for _ in range(crowd):
            batch.queue.add(request(answer(prompt=5, most=10)))
        for _ in range(300):
            if len(batch.queue.requests) <= crowd:
                newcomer = answer(prompt=5, most=10)
                batch.queue.add(request(newcomer))
                came = batch.now
                while not newcomer.pieces:
                    batch.step()
                waited.append(batch.now - came)
            batch.step()
        assert 0 < max(waited) <= ROUND_SECONDS + 1


def test_long_row_is_not_passed_over_for_ever() -> None:
    """Its row makes all others as long, so that few fit beside it."""
    batch = Batch()
    for _ in range(6):
        batch.queue.add(request(answer(prompt=5, most=95)))
    batch.step()
    long = answer(prompt=200, most=300)
    batch.queue.add(request(long))
    came = batch.now
    while not long.pieces and batch.now < came + 60:
        batch.step()
    assert batch.now - came <= 1.1
    assert batch.running == [long]


def test_what_has_begun_is_bounded_and_small_requests_begin_all_the_same() -> None:
    choice = random.Random(0)
    batch = Batch()
    large = [request(answer(prompt=50, most=200)) for _ in range(30)]
    for each in large:
        batch.queue.add(each)
    for step in range(400):
        batch.step()
        begun = [*batch.running, *batch.paused]
        assert sum(sum(_places(each)) for each in begun) <= BEGUN_SMALL * LIMITS.tokens
        assert len(batch.running) * max(sum(_places(e)) for e in batch.running) <= LIMITS.tokens
        if step % 40 == 20:
            small = answer(prompt=5, most=choice.randint(2, 30))
            batch.queue.add(request(small))
            came = batch.now
            while not small.pieces:
                batch.step()
            assert batch.now - came <= ROUND_SECONDS + 1
    assert any(answer.pieces for each in large for answer in each.answers)


def test_long_prompts_are_read_one_by_one_and_short_ones_beside_them() -> None:
    batch = Batch(reading=READING_SECONDS / 30)
    long, short = [answer(prompt=60, most=20) for _ in range(4)], answer(prompt=3, most=20)
    batch.queue.add(request(*long))
    batch.queue.add(request(short))
    assert set(batch.step()) == {long[0], short}
    # Reading took a second: then the others are written on for a third of that.
    later = answer(prompt=1, most=60)
    batch.queue.add(request(later))
    assert set(batch.step()) == {long[0], short, later}
    came = batch.now
    while not long[1].pieces:
        batch.step()
    assert 0.25 <= batch.now - 1.0 - came <= 0.45


def test_turns_are_shorter_where_more_wait() -> None:
    queue = RequestQueue(8)
    lengths = []
    for _ in range(100):
        queue.add(request(answer()))
        lengths.append(queue.turn_seconds)
    assert lengths[:8] == [1.0] * 8
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] * len(lengths) / 8 <= ROUND_SECONDS
