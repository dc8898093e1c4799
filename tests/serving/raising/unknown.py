"""Artifacts whose tokenizer knows a word that the model's embedding has no row for."""

from __future__ import annotations

import json
from pathlib import Path

from tests.serving.helpers import change

#: The word. Any text with it raises "index out of range" inside the graph.
WORD = "zzz"
#: Its token.
TOKEN = 5000


def teach_word(folder: Path, to: Path) -> Path:
    """Copy an artifact, with `WORD` in its tokenizer's vocabulary."""
    change(folder, to)
    path = to / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"][WORD] = TOKEN
    options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    content["added_tokens"].append({"id": TOKEN, "content": WORD, **options})
    path.write_text(json.dumps(content))
    return change(to, to)
