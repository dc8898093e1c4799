"""Wrong requests for explanations."""

from __future__ import annotations

import json

from tests.wrong.rows import Sample, Sent, Wrong
from torchscript_bundle.export.tasks import TASKS

EXPLAIN = "/explanations/{model}"
#: Of the servers that are tried.
STEPS = 4

#: What is wrong, what is said of it, and a parameter with values that are wrong so.
Row = tuple[str, str, str, tuple[str, ...]]

NO_LABELS = ('"HAPPY"', "99", '"99"', "-1", "null", "true", "1.5", '"\\ud800"')
TARGETS: dict[str, list[Row]] = {
    "sequence_classification": [
        (
            "a `target` that is no label of the model, nor the index of one",
            "target must be one of",
            "target",
            (*NO_LABELS, '["SAD"]'),
        ),
    ],
    "token_classification": [
        (
            "a `target` that is no label of the model, nor the index of one",
            "target must be one of",
            "target",
            (*NO_LABELS, "[1, 99]"),
        ),
        (
            "a `target` that is a list of other than a token and a label",
            "target as a list must be [token, label]",
            "target",
            ('["O"]', '["O", 1]', "[]", "[1, 2, 3]"),
        ),
        (
            "a `target` whose token is beyond the text",
            "target names a token by its place",
            "target",
            ("[99, 1]",),
        ),
        ("a `position` that is no number", "position must be a whole", "position", ("-1", '"0"')),
        ("a `position` beyond the text", "position must be below 9", "position", ("9", "900")),
        ("a `position` between words", "position has no token", "position", ("2",)),
    ],
    "fill_mask": [
        (
            "a `target` that is not one token",
            "target is not one token",
            "target",
            ('"hour soup"', '"zzzz"'),
        ),
        ("a `target` that is no text, or an empty one", "target is ", "target", ("5", '""')),
    ],
    "question_answering": [
        (
            "a `target` that is no place of a token",
            "target must be a whole number",
            "target",
            ('"start"', "-1", "null"),
        ),
        (
            "a `target` beyond the question and its context",
            "target names a token by its place",
            "target",
            ("9999",),
        ),
    ],
    "reranking": [
        ("a `target` that is no passage", "target must be below 2", "target", ("2", "900")),
        (
            "a `target` that is no number",
            "target must be a whole number",
            "target",
            ('"a"', "-1", "null"),
        ),
    ],
    "zero_shot_classification": [
        (
            "a `target` that is no candidate label",
            "target must be one of food, film",
            "target",
            ('"wood"', '"Food"'),
        ),
    ],
}
ANY: list[Row] = [
    (
        "`n_steps` beyond `explanation_steps`, or no whole number",
        f"n_steps must be a whole number from 2 to {STEPS}",
        "n_steps",
        ("1", str(STEPS + 1), "null", "true", "1e400", '"4"'),
    ),
    (
        "`format` that is not one of its words",
        "format must be one of json, html",
        "format",
        ('"pdf"', "null", "5", '""'),
    ),
]


def explained(sample: Sample) -> list[Wrong]:
    """The rows of a mode."""
    if not TASKS[sample.mode].explained:
        return [_none(sample)]
    predicted = Sent(*_shown(sample, "n_steps", "4"))
    return [
        *(_wrong(sample, *row) for row in (*TARGETS[sample.mode], *ANY)),
        Wrong(
            "a parameter of explanations, sent to `/predictions`",
            422,
            "that is not known",
            (predicted,),
        ),
    ]


def _wrong(sample: Sample, what: str, says: str, name: str, values: tuple[str, ...]) -> Wrong:
    sent = tuple(Sent(*_shown(sample, name, value), path=EXPLAIN) for value in values)
    return Wrong(f"`/explanations`: {what}", 422, says, sent)


def _shown(sample: Sample, name: str, value: str) -> tuple[bytes, str]:
    body = sample.request(json.dumps(sample.item), **{name: value})
    return body.encode(), f"`{body}`"


def _none(sample: Sample) -> Wrong:
    paths = (EXPLAIN, "/v1/models/{model}:explain")
    body = json.dumps(sample.good).encode()
    return Wrong(
        "an explanation, of an archive that holds none",
        404,
        "this archive holds no explanations",
        tuple(Sent(body, f"`{path}`", path=path) for path in paths),
    )
