"""The page: what a browser shows is the text, whole letters are coloured, and nothing runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from torchscript_bundle.serving.explanations.page import page
from torchscript_bundle.serving.explanations.target import Attribution, Target
from torchscript_bundle.serving.text.tokenizer import Row

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # one emoji of five code points
FLAG = "\U0001f1eb\U0001f1ee"
ACCENTED = "e\u0301"


class Shown(HTMLParser):
    """The texts of a page and their coloured parts: text, colour, number."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.words: list[tuple[str, str, float]] = []
        self.directions: list[str | None] = []
        self.tags: set[str] = set()
        self._within: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        if given.get("class") == "text":
            self.texts.append("")
            self.directions.append(given.get("dir"))
            self._within.append("text")
        elif tag == "span" and self._within and given.get("title"):
            self.words.append(("", str(given["style"]), float(str(given["title"]))))
            self._within.append("word")
        elif self._within:
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if "text" in self._within:
            self.texts[-1] += data
        if "word" in self._within:
            text, *rest = self.words[-1]
            self.words[-1] = (text + data, rest[0], rest[1])  # type: ignore[arg-type]


def explained(text: str, importances: list[float] | None = None, cut: int | None = None) -> Shown:
    """A page about a text of which a token is a byte, as of byte-level tokenizers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({each: at for at, each in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    if cut is not None:
        tokenizer.enable_truncation(cut)
    encoding = tokenizer.encode(text)
    row = Row(encoding.ids, encoding.type_ids, cut is not None, False, encoding)
    values = importances or [(-1.0) ** at for at in range(len(row))]
    found = Attribution(values, 2.0, 1.0, 0.001)
    return Shown(page([[(Target("<b>GLAD</b>", row, {"text": text}, 0, (0,)), found)]]))


@pytest.mark.parametrize(
    "text",
    [
        "It works.",
        "שלום עולם, it works",
        "السلام عليكم",
        f"a {FAMILY} b{FLAG}c {ACCENTED}t{ACCENTED}",
        "<script>alert(1)</script> & \"quotes\" 'too'",
        "two\nlines\t and  spaces",
        "नमस्ते",
    ],
)
def test_the_text_is_shown_as_it_was_sent(text: str) -> None:
    shown = explained(text)
    assert shown.texts == [text]
    assert shown.directions == ["auto"]
    assert "".join(word for word, *_ in shown.words).split() != []
    assert not shown.tags & {"script", "b", "img", "iframe"}


def test_letters_are_not_torn() -> None:
    text = f"{FAMILY}{FLAG} {ACCENTED}"
    shown = explained(text)
    for word, *_ in shown.words:
        for whole in (FAMILY, FLAG, ACCENTED):
            assert whole in word or not set(whole) & set(word)


def test_colours_say_sign_and_strength() -> None:
    shown = explained("ab cd", [1.0, 1.0, 0.0, -0.5, -0.5])
    (first, blue, raised), (second, orange, lowered) = shown.words
    assert (first, second.strip()) == ("ab", "cd")
    assert (raised, lowered) == (2.0, -1.0)
    assert blue.split("rgba")[1] != orange.split("rgba")[1]
    strengths = [float(re.findall(r"([\d.]+)\)", colour)[0]) for colour in (blue, orange)]
    assert strengths[0] > strengths[1] > 0


def test_what_was_cut_off_is_grey() -> None:
    shown = explained("I saw it, not that", cut=5)
    assert shown.texts == ["I saw it, not that"]
    assert [word.strip() for word, *_ in shown.words] == ["I", "saw"]


def test_nothing_is_loaded_or_run() -> None:
    html = page([])
    assert "default-src 'none'" in html
    assert not re.search(r"https?:|src=|<script", html)
