"""Which lost requests a kill explains, and which it does not."""

from __future__ import annotations

from soak.archives import BATCH
from soak.client import Outcome
from soak.losses import Kill, attribute
from torchscript_bundle.serving.artifact import MOST_EXPLANATIONS

KILL = Kill("worker", "labels", 10.0, 10.001)


def lost(sent: float, ended: float) -> Outcome:
    return Outcome(sent, ended, status=507)


def test_a_loss_under_way_at_a_kill_of_its_model_is_explained() -> None:
    found = attribute([("labels", lost(9.9, 10.1))], [KILL])
    assert found.by_kill == {KILL: 1}
    assert not found.unexplained


def test_a_loss_before_or_after_a_kill_or_of_another_model_is_not() -> None:
    losses = [
        ("labels", lost(9.0, 9.9)),
        ("labels", lost(10.2, 10.3)),
        ("vectors", lost(9.9, 10.1)),
    ]
    assert attribute(losses, [KILL]).unexplained == losses


def test_a_killed_worker_explains_no_more_than_its_batch() -> None:
    most = BATCH + MOST_EXPLANATIONS
    found = attribute([("labels", lost(9.9, 10.1))] * (most + 1), [KILL])
    assert found.by_kill == {KILL: most}
    assert len(found.unexplained) == 1


def test_a_killed_java_explains_all_that_it_had() -> None:
    java = Kill("java", "labels", 10.0, 10.001)
    found = attribute([("labels", lost(9.9, 10.1))] * 200, [java])
    assert found.by_kill == {java: 200}
