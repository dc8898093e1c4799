"""The one request of the TorchServe example that is not JSON.

`Token_classification_artifacts/sample_text_captum_input.txt` ends with `"target":(1,2)}`, a Python
tuple. In brackets it is JSON. Nothing else of Python's syntax is read.
"""

from __future__ import annotations

import re

#: Most characters of the member and what follows it.
MOST = 100
_TUPLE = re.compile(r'("target"\s*:\s*)\(\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,?\s*\)(\s*\}\s*)\Z')


def with_brackets(text: str) -> str:
    """Return a body with the tuple that its last member is as a JSON list; any other as it is.

    JSON is never changed: a string that holds these characters ends with a quote, so that a JSON
    text with them does not end so.
    """
    head, tail = text[:-MOST], text[-MOST:]
    return head + _TUPLE.sub(r"\1[\2,\3]\4", tail)
