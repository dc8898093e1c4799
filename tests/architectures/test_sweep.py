"""A crash or a hang of one architecture is a row, not the end."""

from __future__ import annotations

from architectures.sweep import sweep


def test_rows_come_in_order_and_a_crash_is_one_of_them() -> None:
    chosen = [("fill_mask", "no_such_model"), ("fill_mask", "bert"), ("fill_mask", "tapas")]
    crashed, bert, tapas = sweep(chosen)
    assert (crashed.head, crashed.model_type, crashed.status) == (*chosen[0], "crashed")
    assert "no_such_model" in crashed.note
    assert (bert.model_type, bert.status, bert.batch, bert.length) == (
        "bert",
        "exact",
        "any",
        "any",
    )
    assert tapas.status == "out of scope"


def test_a_hang_is_a_row() -> None:
    [row] = sweep([("fill_mask", "bert")], patience=0.01)
    assert (row.status, row.note) == ("crashed", "no answer within 0.01 s")
