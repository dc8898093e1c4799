"""Wrong requests that only one mode has: its keys, its parameters, its limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from tests.wrong.addresses import addressed
from tests.wrong.core import MOST, NO_STRINGS
from tests.wrong.explained import explained
from tests.wrong.rows import Sample, Wrong, as_json, members, sources, unshown

TEXT = "It works."
NO_NUMBERS = ("null", "true", '"2"', "1.5", "[]", "{}", "1e400", "-1", "1" + "0" * 400)
NO_BOOLEANS = ("null", "0", "1", '"true"', "[]", "1e400")
NO_WORDS = ("null", "5", "[]", '"nonsense"', '"\\u0000"', '""')
WANTS_TEXT = "; send a string"

SAMPLES = (
    Sample("sequence_classification", "bert", {"text": TEXT}, WANTS_TEXT),
    Sample("token_classification", "bert_ner", {"text": TEXT}, WANTS_TEXT),
    Sample("fill_mask", "bert_mlm", {"text": "It [MASK]."}, WANTS_TEXT),
    Sample(
        "question_answering",
        "bert_qa",
        {"question": "Who?", "context": TEXT},
        'send {"question": "...", "context": "..."}',
    ),
    Sample("feature_extraction", "bert_embedding", {"text": TEXT}, WANTS_TEXT),
    Sample("sparse_embedding", "bert_sparse", {"text": TEXT}, WANTS_TEXT),
    Sample(
        "reranking",
        "bert_reranker",
        {"query": "soup", "passages": [TEXT, "a film"]},
        'send {"query": "...", "passages": ["...", "..."]}',
    ),
    Sample(
        "zero_shot_classification",
        "bert_nli",
        {"text": TEXT},
        WANTS_TEXT,
        {"candidate_labels": ["food", "film"]},
    ),
)


def own(sample: Sample) -> list[Wrong]:
    """The rows of a mode."""
    return [*ROWS[sample.mode](sample), *addressed(sample), *explained(sample)]


def _parameter(sample: Sample, name: str, wrong: Iterable[str], says: str, what: str) -> Wrong:
    """A parameter with values that it may not have."""
    item = json.dumps(sample.item)
    bodies = [sample.request(item, **{name: each}) for each in wrong]
    beside = members({**sources(sample.item), **sources(sample.parameters), name: "{}"})
    return Wrong(f"`{name}` that is not {what}", 422, says, as_json([*bodies, beside]))


def _whole(sample: Sample, name: str, least: int, most: int) -> Wrong:
    says = f"{name} must be a whole number from {least} to {most}"
    outside = (str(least - 1), str(most + 1))
    what = f"a whole number from {least} to {most}"
    return _parameter(sample, name, (*outside, *NO_NUMBERS), says, what)


def _boolean(sample: Sample, name: str) -> Wrong:
    says = f"{name} must be true or false"
    return _parameter(sample, name, NO_BOOLEANS, says, "`true` or `false`")


def _cutting(sample: Sample) -> list[Wrong]:
    """What is to become of a text that is too long."""
    return [
        _boolean(sample, "truncate"),
        _parameter(
            sample,
            "truncation_direction",
            (*NO_WORDS, '["left"]'),
            "truncation_direction must be one of left, right",
            "`left` or `right`",
        ),
    ]


def _twice(sample: Sample, name: str) -> Wrong:
    """A parameter beside the input as well as under `parameters`, or of two tensors."""
    body = sample.request(json.dumps(sample.item), **{name: "1"})
    return Wrong(
        f"a parameter that is given twice (`{name}`)",
        422,
        f"{name} is given twice",
        as_json([body[:-1] + f', "{name}": 1}}']),
    )


def _text_key(sample: Sample) -> Wrong:
    """An object without its text; texts as they are, in a list."""
    return Wrong(
        "an input without `text`", 422, "the input has no text", as_json(['{"inputs": {}}'])
    )


def _sequence_classification(sample: Sample) -> list[Wrong]:
    def pair(source: str) -> str:
        return members({"text": '"a"', "text_pair": source})

    def far(words: int, count: int) -> str:
        text = "a " * words
        return json.dumps([{"text": text, "text_pair": text}] * count)

    numbers = tuple(each for each in NO_NUMBERS if each != "null" and not each.startswith("10"))
    return [
        _text_key(sample),
        _parameter(
            sample,
            "top_k",
            ("0", *numbers),
            "top_k must be a whole number of at least 1, or null",
            "a whole number from 1, or `null`",
        ),
        _boolean(sample, "raw_scores"),
        *_cutting(sample),
        _twice(sample, "top_k"),
        Wrong(
            "`text_pair` that is no text, or an empty one",
            422,
            "text_pair ",
            as_json((*map(pair, NO_STRINGS), pair('""'), pair('"\\ud800"'))),
        ),
        Wrong(
            "`text_pair` alone",
            422,
            "the input has no text",
            as_json(('{"text_pair": "a"}', '{"inputs": [{"text_pair": "a"}]}')),
        ),
        Wrong(
            "two texts that are both far too long",
            413,
            "the texts of the pair are far over 64 tokens",
            unshown([far(5000, 1), far(60_000, 1)], "two texts of 5,000 words"),
        ),
        Wrong(
            "many pairs of long texts, whose pieces would fill the memory together",
            413,
            "send fewer pairs at a time",
            unshown([far(1200, MOST)], "16 pairs of two texts of 1,200 words"),
        ),
    ]


def _token_classification(sample: Sample) -> list[Wrong]:
    item = json.dumps(sample.item)
    long = json.dumps("a " * 100)
    labels = ('"O"', "null", "5", "{}", '["PERSON"]', "[5]", "[null]", '["\\ud800"]')
    return [
        _text_key(sample),
        _parameter(
            sample,
            "aggregation_strategy",
            (*NO_WORDS, '["simple"]'),
            "aggregation_strategy must be one of none, simple",
            "one of its words",
        ),
        _parameter(
            sample,
            "ignore_labels",
            labels,
            "ignore_labels must be a list",
            "a list of labels of the model",
        ),
        _whole(sample, "stride", 0, 31),
        _twice(sample, "stride"),
        Wrong(
            "`stride` with `none`",
            422,
            "stride needs another aggregation_strategy",
            as_json([sample.request(item, aggregation_strategy='"none"', stride="1")]),
        ),
        Wrong(
            "a text of several windows with `none`",
            413,
            'for which aggregation_strategy "none" is not defined',
            unshown(
                [sample.request(long, aggregation_strategy='"none"')],
                "a text of 100 words, and `none`",
            ),
        ),
        _windows(sample),
    ]


def _windows(sample: Sample) -> Wrong:
    """Too many windows, of one text or of several."""
    long, longest = json.dumps("a " * 2000), json.dumps("a " * 500_000)
    several = json.dumps(["a " * 500] * 4)
    return Wrong(
        "more windows than `max_client_batch`",
        413,
        "windows of 64 tokens",
        unshown(
            [sample.request(each) for each in (long, longest, several)], "a text of 2,000 words"
        ),
    )


def _fill_mask(sample: Sample) -> list[Wrong]:
    item = json.dumps(sample.item)

    def targets(*wrong: str) -> list[str]:
        return [sample.request(item, targets=each) for each in wrong]

    return [
        _text_key(sample),
        _whole(sample, "top_k", 1, 100),
        _twice(sample, "top_k"),
        _parameter(
            sample,
            "targets",
            ('"hour"', "null", "5", "{}", "[]"),
            "targets must be a list of 1 to 100 strings",
            "a list of 1 to 100 strings",
        ),
        Wrong(
            "more than 100 targets",
            422,
            "101 targets; send at most 100",
            unshown(targets(json.dumps(["hour"] * 101)), "101 targets"),
        ),
        Wrong(
            "a target that is no text",
            422,
            "target 0 ",
            as_json(targets("[5]", "[null]", '[""]', '["\\ud800"]', "[[]]")),
        ),
        Wrong(
            "a target that is not one token, or is over 500 characters",
            422,
            "target 1 is ",
            (
                *as_json(targets('["hour", "hour soup"]', '["hour", "zzzz"]')),
                *unshown(targets(json.dumps(["hour", " " * 9000 + "hour"])), ""),
            ),
        ),
        Wrong(
            "no mask in the text",
            422,
            "the text has no mask; write [MASK]",
            as_json(('"It works."', '"<mask>"', '"\\u0000"')),
        ),
        Wrong(
            "a mask in what is cut",
            413,
            "a mask is in what is cut",
            unshown(
                [json.dumps("a " * 100 + "[MASK]"), json.dumps("[MASK] " * 100_000)],
                "100 words and `[MASK]`",
            ),
        ),
        Wrong(
            "masks times `top_k` over 100",
            413,
            "ask for more than 100 texts",
            as_json([members({"text": json.dumps("[MASK] [MASK]"), "top_k": "51"})]),
        ),
    ]


def _question_answering(sample: Sample) -> list[Wrong]:
    def ask(**changes: str) -> str:
        return members({**sources(sample.item), **changes})

    long = json.dumps("a " * 200)
    return [
        Wrong(
            "a bare text, or an object without question or context",
            422,
            sample.wants,
            as_json(('"a text"', '["a text"]', '{"question": "a"}', '{"context": "a"}')),
        ),
        Wrong(
            "a context that is no text, or an empty one",
            422,
            "context ",
            as_json(ask(context=each) for each in (*NO_STRINGS, '""', '"\\ud800"')),
        ),
        Wrong(
            "a context without a token, such as null bytes",
            422,
            "the context has no tokens",
            as_json(ask(context=each) for each in ('"\\u0000"', '"\\u0000\\u0001"')),
        ),
        _whole(sample, "top_k", 1, 100),
        _whole(sample, "max_answer_len", 1, 64),
        _whole(sample, "doc_stride", 0, 32),
        _boolean(sample, "handle_impossible_answer"),
        _twice(sample, "top_k"),
        Wrong(
            "a question over half of `max_length`",
            413,
            "the question is over 32 tokens",
            unshown([ask(question=long), ask(question=json.dumps("a " * 500_000))], "200 words"),
        ),
        Wrong(
            "a context of more than `max_client_batch` windows",
            413,
            "windows of 64 tokens",
            unshown(
                [
                    ask(context=json.dumps("a " * words), doc_stride="8")
                    for words in (2000, 500_000)
                ],
                "a context of 2,000 words",
            ),
        ),
        Wrong(
            "windows that share all that they have room for",
            413,
            "share fewer",
            unshown(
                [ask(question=json.dumps("a " * 32), context=long, doc_stride="32")],
                "a question of 32 words and `doc_stride` 32",
            ),
        ),
    ]


def _feature_extraction(sample: Sample) -> list[Wrong]:
    item = json.dumps(sample.item)
    return [
        _text_key(sample),
        _boolean(sample, "normalize"),
        *_cutting(sample),
        _parameter(
            sample,
            "dimensions",
            ("0", "33", *NO_NUMBERS),
            "dimensions must be a whole number ",
            "a whole number from 1 to the vector's size",
        ),
        _twice(sample, "truncate"),
        Wrong(
            "`normalize` false for a model that normalises",
            422,
            "this model normalises its vectors itself",
            as_json([sample.request(item, normalize="false")]),
        ),
        *_of_vectors(sample),
    ]


def _of_vectors(sample: Sample) -> list[Wrong]:
    """What both modes that embed texts refuse."""
    item = json.dumps(sample.item)
    return [
        Wrong(
            "`prompt_name` for a model without prompts",
            422,
            "this model has no prompt_name; leave it out",
            as_json(sample.request(item, prompt_name=each) for each in ('"query"', *NO_WORDS)),
        ),
        Wrong(
            "a text over `max_length`, with `truncate` false",
            413,
            "truncate is false; send a shorter text",
            unshown(
                [sample.request(json.dumps("a " * n), truncate="false") for n in (100, 400_000)],
                "100 words",
            ),
        ),
    ]


def _sparse_embedding(sample: Sample) -> list[Wrong]:
    return [
        _text_key(sample),
        _whole(sample, "top_k", 1, 4096),
        _boolean(sample, "return_tokens"),
        _boolean(sample, "truncate"),
        _twice(sample, "top_k"),
        *_of_vectors(sample),
    ]


def _reranking(sample: Sample) -> list[Wrong]:
    def rank(**changes: str) -> str:
        return members({"query": '"soup"', **changes})

    def passages(count: int, words: int) -> str:
        return json.dumps(["a " * words] * count)

    both = rank(passages='["a"]', texts='["a"]')
    many = rank(query=json.dumps("a " * 900), passages=passages(MOST, 50))
    return [
        Wrong(
            "a bare text, or no passages",
            422,
            sample.wants,
            as_json(('"a text"', '["a text"]', '{"inputs": {"query": "a"}}')),
        ),
        Wrong(
            "`passages` and `texts`",
            422,
            "passages and texts are the same; send one of them",
            as_json([both]),
        ),
        Wrong("no query", 422, "the input has no query", as_json(['{"passages": ["a"]}'])),
        Wrong(
            "passages that are no list",
            422,
            "passages must be a list of 1 to 10000 strings",
            as_json(rank(passages=each) for each in ('"a"', "5", "null", "{}", "true", "1e400")),
        ),
        Wrong(
            "an empty list of passages",
            422,
            "passages must be a list of 1 to 10000 strings, and is an empty list",
            as_json((rank(passages="[]"), rank(texts="[]"))),
        ),
        Wrong(
            "a passage that is no text, or an empty one",
            422,
            "passage 1 ",
            as_json(rank(passages=f'["a", {each}]') for each in (*NO_STRINGS, '""', '"\\udc00"')),
        ),
        _whole(sample, "top_n", 1, 10_000),
        _boolean(sample, "return_documents"),
        _boolean(sample, "raw_scores"),
        *_cutting(sample),
        _twice(sample, "top_n"),
        Wrong(
            "more passages than `max_client_batch`",
            413,
            "send ",
            unshown(
                [
                    rank(passages=passages(MOST + 1, 1)),
                    rank(passages=passages(100_000, 1)),
                    json.dumps([{"query": "a", "passages": ["a"] * 9}] * 2),
                ],
                '`{"query": "soup", "passages": ["a", ...]}`, 17 of them',
            ),
        ),
        Wrong(
            "a long query with long passages",
            413,
            "shorte",
            unshown(
                [
                    rank(query=json.dumps("a " * 5000), passages=passages(2, 5000)),
                    rank(query=json.dumps("a " * 1000), passages=passages(MOST, 1000)),
                    f"[{', '.join([many] * MOST)}]",
                ],
                "a query and two passages of 5,000 words",
            ),
        ),
    ]


def _zero_shot_classification(sample: Sample) -> list[Wrong]:
    def label(**changes: str) -> str:
        return sample.request(json.dumps(sample.item), **changes)

    names = json.dumps([f"food {at}" for at in range(MOST + 1)])
    thousand = json.dumps(["a"] * 1001)
    braces = ('"It is."', '"{} or {}"', '"{0}"', '"{} {"', '"}{"', '"{{}}"', '"{}}"')
    return [
        Wrong(
            "an input without `text`",
            422,
            "the input has no text",
            as_json([sample.request("{}")]),
        ),
        Wrong("no `candidate_labels`", 422, "candidate_labels must be", as_json(['"It works."'])),
        _parameter(
            sample,
            "candidate_labels",
            ("[]", '""', '" , ,"', "5", "null", "true", "1e400"),
            "candidate_labels must be a list of 1 to 1000 strings",
            "a list, or a string, of labels",
        ),
        Wrong(
            "a label that is no text, an empty one, or one of over 500 characters",
            422,
            "label ",
            (
                *as_json(
                    label(candidate_labels=f'["food", {each}]')
                    for each in ('""', "5", "null", "[]", "{}", "1e400")
                ),
                *unshown([label(candidate_labels=json.dumps(["a" * 501]))], ""),
            ),
        ),
        Wrong(
            "a template without `{}`, with two or with other braces",
            422,
            "hypothesis_template must hold {} once",
            as_json(label(hypothesis_template=each) for each in braces),
        ),
        Wrong(
            "a template that is no text, an empty one, or one of over 1000 characters",
            422,
            "hypothesis_template is ",
            (
                *as_json(label(hypothesis_template=each) for each in ("5", "null", '""', "[]")),
                *unshown([label(hypothesis_template=json.dumps("{}" + "a" * 1000))], ""),
            ),
        ),
        _boolean(sample, "multi_label"),
        _twice(sample, "candidate_labels"),
        Wrong(
            "more labels, texts times labels, than `max_client_batch`",
            413,
            "; send ",
            unshown(
                [
                    label(candidate_labels=names),
                    label(candidate_labels=thousand),
                    sample.request(json.dumps(["a", "b"] * 8)),
                ],
                "17 labels",
            ),
        ),
        Wrong(
            "characters of the text times labels over 250,000",
            413,
            "characters for 2 labels; send at most 125000 characters",
            unshown([sample.request(json.dumps("a " * 62_501))], "a text of 125,002 characters"),
        ),
        Wrong(
            "a label in its template over half of `max_length`",
            413,
            "a label in its template is over 32 tokens",
            unshown([label(candidate_labels=json.dumps(["a " * 40]))], "a label of 40 words"),
        ),
    ]


ROWS: dict[str, Callable[[Sample], list[Wrong]]] = {
    "sequence_classification": _sequence_classification,
    "token_classification": _token_classification,
    "fill_mask": _fill_mask,
    "question_answering": _question_answering,
    "feature_extraction": _feature_extraction,
    "sparse_embedding": _sparse_embedding,
    "reranking": _reranking,
    "zero_shot_classification": _zero_shot_classification,
}
