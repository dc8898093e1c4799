"""Attributions as an HTML page: the text, its words coloured by importance.

Words are coloured whole: no colour ends inside a letter with its accents, an emoji of several code
points or a word whose letters join. Each paragraph has the direction of its first letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.explanations.target import Attribution, Target

try:
    import regex
except ImportError as error:
    raise ArtifactError(
        "the archive explains its answers on pages, which need a Python package that is missing; "
        "install it with `pip install regex`, or make the artifact with captum_explanation false"
    ) from error

#: First and last character (exclusive), and their importance.
Span = tuple[int, int, float]

STYLE = """
body { font: 16px/1.7 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem;
       color: #111; background: #fff; }
h2 { font-size: 1rem; margin: 2rem 0 0; }
p { margin: .3rem 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.text span { border-radius: .2em; padding: .1em 0; }
.unread { color: #767676; }
.facts, .key { color: #555; font-size: .85rem; }
.key span { padding: .1em .4em; border-radius: .2em; }
"""
#: Blue raises, orange lowers: a colour-blind reader can tell them apart.
RAISES, LOWERS = "30, 110, 230", "235, 130, 20"
STRONGEST = 0.65  # black on it stays readable


def page(explanations: Sequence[Sequence[tuple[Target, Attribution]]]) -> str:
    """Return an HTML document, without scripts or links, with the explanations of each item."""
    parts = [_explanation(*pair) for item in explanations for pair in item]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width">',
            f"<title>Explanation</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f'<p class="key"><span style="{_colour(1.0)}">raises</span> '
            f'<span style="{_colour(-1.0)}">lowers</span> the score of the target, against a text '
            "of padding. The stronger the colour, the more.</p>",
            *parts,
            "</body>\n</html>\n",
        ]
    )


def _explanation(target: Target, found: Attribution) -> str:
    words = [_words(target, found, owner) for owner in range(len(target.texts))]
    strongest = max((abs(each[2]) for spans in words for each in spans), default=0.0) or 1.0
    texts = []
    for (name, text), spans in zip(target.texts.items(), words, strict=True):
        coloured = _coloured(text, spans, strongest)
        if len(target.texts) > 1:
            texts.append(f'<p class="facts">{escape(name)}</p>')
        texts.append(f'<p class="text" dir="auto">{coloured}</p>')
    facts = (
        f"output {found.output:.4f}, of padding {found.baseline_output:.4f}, "
        f"convergence delta {found.delta:.1e}"
    )
    head = f'<h2 dir="auto">{escape(target.name)}</h2>'
    return "\n".join([head, *texts, f'<p class="facts">{facts}</p>'])


def _coloured(text: str, words: Sequence[Span], strongest: float) -> str:
    """Colour the words of a text, and its truncated parts grey."""
    whole = _at_letters(text, words)
    first = min((start for start, _, _ in whole), default=0)
    last = max((end for _, end, _ in whole), default=0)
    pieces = [_unread(text[:first])]
    done = first
    for start, end, importance in whole:
        title = f'title="{importance:+.4f}"'
        style = f'style="{_colour(importance / strongest)}"'
        pieces.append(escape(text[done:start]))
        pieces.append(f"<span {style} {title}>{escape(text[start:end])}</span>")
        done = end
    return "".join([*pieces, _unread(text[last:])])


def _unread(text: str) -> str:
    return f'<span class="unread">{escape(text)}</span>' if text.strip() else escape(text)


def _colour(importance: float) -> str:
    strength = min(1.0, abs(importance)) * STRONGEST
    return f"background: rgba({RAISES if importance > 0 else LOWERS}, {strength:.3f})"


def _words(target: Target, found: Attribution, owner: int) -> list[Span]:
    """Return the words of one of the row's texts, or its tokens if the tokenizer has no words."""
    encoding = target.row.encoding
    assert encoding is not None
    tokens = [
        (encoding.word_ids[at], *encoding.offsets[at], found.importances[at])
        for at, special in enumerate(encoding.special_tokens_mask)
        if not special and encoding.sequence_ids[at] == owner
    ]
    whole = len({word for word, *_ in tokens}) > 1
    keyed = groupby(enumerate(tokens), key=lambda each: each[1][0] if whole else each[0])
    return [_joined([(*token[1:],) for _, token in group]) for _, group in keyed]


def _joined(spans: Sequence[Span]) -> Span:
    starts, ends, importances = zip(*spans, strict=True)
    return min(starts), max(ends), sum(importances)


def _at_letters(text: str, spans: Iterable[Span]) -> list[Span]:
    """Widen spans to grapheme clusters (https://unicode.org/reports/tr29/), and join overlaps."""
    begins, ends = [0] * (len(text) + 1), [0] * (len(text) + 1)
    for cluster in regex.finditer(r"\X", text):
        for at in range(cluster.start(), cluster.end()):
            begins[at], ends[at + 1] = cluster.start(), cluster.end()
    found: list[Span] = []
    for start, end, importance in sorted(spans):
        if start == end:
            continue
        span = (begins[start], ends[end], importance)
        if found and found[-1][1] > span[0]:
            span = _joined([found.pop(), span])
        found.append(span)
    return found
