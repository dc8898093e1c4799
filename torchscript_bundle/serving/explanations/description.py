"""The JSON of one explained target."""

from __future__ import annotations

from typing import Any

from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    NUMBER,
    STRING,
    TRUE,
    JsonSchema,
    array,
    record,
)
from torchscript_bundle.serving.explanations.target import Attribution, Target

_SPAN: dict[str, JsonSchema] = {"start": COUNT, "end": COUNT}
_TOKEN = record({"token": STRING, **_SPAN, "importance": NUMBER}, {"of": STRING})
#: The JSON that `describe` returns.
EXPLANATION = record(
    {
        "target": STRING,
        "output": NUMBER,
        "baseline_output": NUMBER,
        "delta": NUMBER,
        "tokens": array(_TOKEN),
    },
    {"at": record(_SPAN), "truncated": TRUE},
)


def describe(target: Target, found: Attribution) -> dict[str, Any]:
    """Return one explanation as JSON, without special tokens, which have no importance."""
    return {
        "target": target.name,
        **({"at": _span(target)} if target.per_token else {}),
        "output": found.output,
        "baseline_output": found.baseline_output,
        "delta": found.delta,
        "tokens": _tokens(target, found),
        **({"truncated": True} if target.row.truncated else {}),
    }


def _span(target: Target) -> dict[str, int]:
    assert target.row.encoding is not None
    start, end = target.row.encoding.offsets[target.place[0]]
    return {"start": start, "end": end}


def _tokens(target: Target, found: Attribution) -> list[dict[str, Any]]:
    encoding = target.row.encoding
    assert encoding is not None
    names = list(target.texts)
    tokens = []
    for at, special in enumerate(encoding.special_tokens_mask):
        owner = encoding.sequence_ids[at]
        if special or owner is None:
            continue
        start, end = encoding.offsets[at]
        tokens.append(
            {
                **({"of": names[owner]} if len(names) > 1 else {}),
                "token": target.texts[names[owner]][start:end],
                "start": start,
                "end": end,
                "importance": found.importances[at],
            }
        )
    return tokens
