"""Wrong requests that every mode answers alike."""

from __future__ import annotations

import json

from tests.wrong.rows import Sample, Sent, Wrong, as_json, members, sources, typed, unshown

#: Most items in a request to the servers that are tried.
MOST = 16
DEEP = 50_000

NO_STRINGS = (
    "5",
    "null",
    "true",
    "1.5",
    "1e400",
    "[]",
    "{}",
    '["a"]',
    '{"a": 1}',
    "[" * 90 + "]" * 90,
)
NO_ITEMS = ("null", "5", "true", "1.5")
NO_OBJECTS = ("[]", '"top_k"', "5", "null", "true", "[1]")
NO_LISTS = ('"a text"', "null", "5", "true", "{}")


def core(sample: Sample) -> list[Wrong]:
    """All of them, made from a right request of a mode."""
    return [
        *_bodies(sample),
        *_deadlines(sample),
        *_inputs(sample),
        *_texts(sample),
        *_parameters(sample),
        *_instances(sample),
        *_tensors(sample),
        *_tensors_together(sample),
    ]


def _bodies(sample: Sample) -> list[Wrong]:
    """Bodies that cannot be read, whatever they would say."""
    item, key = json.dumps(sample.item), sample.key
    form = "application/x-www-form-urlencoded"
    multipart = (
        b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nIt works.\r\n--x--\r\n',
        b'--x\r\nContent-Disposition: form-data; name="d\xc3\xa9"\r\n\r\nIt works.\r\n--x--\r\n',
    )
    utf16 = '"It works."'.encode("utf-16")
    return [
        Wrong(
            "no body, or white space alone",
            400,
            "the body is empty",
            (
                *typed(None, b"", shown="nothing"),
                *typed("application/json", b"", b" \r\n\t", b"\xef\xbb\xbf"),
                *typed("text/plain", b" "),
                *typed(form, b"", b"data="),
            ),
        ),
        Wrong(
            "a form without the field `data`",
            400,
            'the form has no field "data"',
            (
                *typed(form, b"text=It+works."),
                *typed("multipart/form-data; boundary=x", *multipart),
            ),
        ),
        Wrong(
            "bytes that are not UTF-8: Latin-1, UTF-16, gzip, a surrogate as bytes",
            400,
            "is not UTF-8 (byte",
            (
                *typed("text/plain", b"caf\xe9", b"\xff", b"a\xed\xa0\x80", b"\xc0\x80"),
                *typed("application/json", b'{"inputs": "caf\xe9"}', utf16, b"\x1f\x8b\x08"),
                *typed(None, b'{"inputs": "caf\xe9"}', b"\xf5"),
            ),
        ),
        Wrong(
            "declared as JSON, but is not; a null byte or a line break in a string",
            400,
            "the body is declared as JSON but is not",
            as_json(
                (
                    "It works.",
                    '{"inputs": ',
                    "{'inputs': 'It works.'}",
                    f'{{"inputs": {item},}}',
                    f"{item} {item}",
                    '{"inputs": "a\x00b"}',
                    '"a\nb"',
                    '"\\ud8"',
                    "\x00",
                )
            ),
        ),
        Wrong(
            "declared as text, or as nothing, but begins like an object with a key of a request",
            400,
            f'with the key "{key}" but is ',
            (
                *typed(None, f"{{'{key}': 'It works.'}}".encode(), f'{{"{key}": "It '.encode()),
                *typed(None, f'[{{"{key}": "It works.",}}]'.encode()),
                *typed("text/plain", item.encode(), f"{{'{key}': 'It works.'}}".encode()),
                *typed(form, f"data={{'{key}': 'It works.'}}".encode()),
            ),
        ),
        Wrong(
            "declared as nothing, but begins and ends like a list of strings",
            400,
            "looks like a list of strings in JSON but is not",
            typed(None, b"['It works.', 'Not bad.']", b'["It works.",]'),
        ),
        Wrong(
            "`NaN`, `Infinity`, a whole number of over 4,300 digits",
            400,
            "a number that is out of range, NaN or Infinity",
            (
                *as_json(sample.request(item, top_k=each) for each in ("NaN", "-Infinity")),
                *as_json((f'{{"inputs": [{item}, Infinity]}}', "NaN")),
                *unshown(
                    (sample.request(item, top_k="9" * 5000), "9" * 5000), "`999...` (5,000 digits)"
                ),
            ),
        ),
        Wrong(
            "JSON nested too deeply",
            400,
            "it is nested too deeply",
            unshown(
                (
                    "[" * DEEP,
                    "[" * DEEP + "]" * DEEP,
                    '{"inputs": ' * DEEP,
                    sample.request(item, top_k="[" * DEEP + "]" * DEEP),
                    '{"instances": [' * DEEP + "]}" * DEEP,
                ),
                "`[[[[[...`",
            ),
        ),
        Wrong(
            "an object with the same key twice",
            422,
            "an object has the same key twice",
            (
                *as_json((f'{{"inputs": {item}, "inputs": {item}}}',)),
                *typed(None, f'{{"inputs": {item}, "data": {{"a": 1, "a": 2}}}}'.encode()),
            ),
        ),
        Wrong(
            "another content type",
            415,
            "this content type is not served",
            (
                *typed("image/png", item.encode(), shown="`Content-Type: image/png`"),
                *typed("application/xml", item.encode(), shown="`Content-Type: application/xml`"),
                *typed("multipart/form-data", item.encode(), shown="a form without a boundary"),
                *typed("json", item.encode(), shown="`Content-Type: json`"),
                *typed("a" * 2000, item.encode()),
            ),
        ),
        Wrong(
            "a charset other than UTF-8",
            415,
            "this charset is not served; send UTF-8",
            (
                *typed(
                    "text/plain; charset=latin-1",
                    b"It works.",
                    shown="`Content-Type: text/plain; charset=latin-1`",
                ),
                *typed(
                    "application/json; charset=utf-16",
                    item.encode(),
                    shown="`Content-Type: application/json; charset=utf-16`",
                ),
            ),
        ),
    ]


def _deadlines(sample: Sample) -> list[Wrong]:
    """Right requests that come too late, or do not say when that is."""
    body = json.dumps(sample.good).encode()

    def by(*deadlines: str) -> tuple[Sent, ...]:
        return tuple(
            Sent(body, f"`X-Request-Deadline: {each}`", headers=(("X-Request-Deadline", each),))
            for each in deadlines
        )

    return [
        Wrong(
            "a deadline that is past when the request's turn comes (unix milliseconds)",
            504,
            "had passed before it was computed",
            by("1767225600000", "0"),
        ),
        Wrong(
            "a deadline that is not unix time in milliseconds",
            400,
            "X-Request-Deadline must be unix time in milliseconds",
            by("soon", "1.5", "-1", "9" * 16),
        ),
    ]


def _inputs(sample: Sample) -> list[Wrong]:
    """Requests of the native form that are no request."""
    item = json.dumps(sample.item)
    item_and_more = members({**sources(sample.item), "colour": '"red"'})
    return [
        Wrong(
            "no input, or two",
            422,
            "send one input",
            as_json(
                (
                    "{}",
                    '{"parameters": {}}',
                    f'{{"inputs": {item}, "data": {item}}}',
                    members({**sources(sample.item), "inputs": item}),
                )
            ),
        ),
        Wrong(
            "an unknown key, of the request or of an input",
            422,
            "the object has a key that is not known",
            as_json(
                (
                    item_and_more,
                    sample.request(item_and_more),
                    sample.request(f"[{item}, {item_and_more}]"),
                    members({"inputs": item, "": "1"}),
                    members({"inputs": item, "\ud800": "1"}),
                    members({"inputs": item, "__class__": "{}"}),
                    members({"inputs": item, "id": '"7"'}),
                )
            ),
        ),
        Wrong(
            "a number, boolean or null where an input is wanted",
            422,
            sample.wants,
            as_json((*NO_ITEMS, *map(sample.request, NO_ITEMS), '{"data": 5}')),
        ),
        Wrong(
            "the same in a list, or a list in a list",
            422,
            "item 1 of the list: ",
            as_json(
                sample.request(f"[{item}, {wrong}]") for wrong in (*NO_ITEMS, "[]", f"[{item}]")
            ),
        ),
        Wrong(
            "an empty list",
            422,
            "the list is empty; send at least one text",
            as_json(("[]", sample.request("[]"), '{"data": []}')),
        ),
        Wrong(
            "more inputs than `max_client_batch`",
            413,
            f"texts in one request; send at most {MOST} at a time",
            (
                *unshown(
                    [sample.request(f"[{', '.join([item] * count)}]") for count in (MOST + 1, 300)],
                    '`["It works.", "It works.", ...]`, 17 of them',
                ),
                *unshown([json.dumps([None] * 100_000)], ""),
            ),
        ),
    ]


def _texts(sample: Sample) -> list[Wrong]:
    """Inputs whose first text is none."""
    return [
        Wrong(
            "something else where a text is wanted",
            422,
            "; send a string",
            as_json(sample.request(sample.spoiled(each)) for each in NO_STRINGS),
        ),
        Wrong(
            "an empty text",
            422,
            " is empty; send at least one word",
            as_json(
                sample.request(sample.spoiled(each)) for each in ('""', '"  "', '"\\n\\u2003"')
            ),
        ),
        Wrong(
            "half of a surrogate pair",
            422,
            "has half of a surrogate pair",
            as_json(
                sample.request(sample.spoiled(each))
                for each in ('"a \\ud800"', '"\\udfff"', '"\\ude00\\ud83d"')
            ),
        ),
    ]


def _parameters(sample: Sample) -> list[Wrong]:
    item = json.dumps(sample.item)
    return [
        Wrong(
            "`parameters` that are no object",
            422,
            "parameters must be an object",
            as_json(f'{{"inputs": {item}, "parameters": {each}}}' for each in NO_OBJECTS),
        ),
        Wrong(
            "`options` that are no object, or other ones",
            422,
            "options",
            as_json(
                f'{{"inputs": {item}, "options": {each}}}' for each in (*NO_OBJECTS, '{"a": 1}')
            ),
        ),
        Wrong(
            "an unknown parameter",
            422,
            'the object has a key that is not known; known are "parameters.',
            as_json(
                (
                    sample.request(item, temperature="1"),
                    sample.request(item, temperature="1e400"),
                    sample.request(item, TOP_K="1"),
                    sample.request(item, parameters="{}"),
                )
            ),
        ),
    ]


def _instances(sample: Sample) -> list[Wrong]:
    """KServe's first protocol."""
    item = json.dumps(sample.item)
    return [
        Wrong(
            "`instances` that are no list",
            422,
            "instances must be a list of inputs",
            (
                *as_json(f'{{"instances": {each}}}' for each in NO_LISTS),
                *as_json(['{"instances": 5}'], "/v1/models/{model}:predict"),
            ),
        ),
        Wrong(
            "`instances` beside another key",
            422,
            'known are "instances", "parameters"',
            as_json(
                (f'{{"instances": [{item}], "inputs": [{item}]}}', '{"instances": [], "x": 1}')
            ),
        ),
        Wrong(
            "no instances",
            422,
            "the list is empty",
            as_json(['{"instances": []}']),
        ),
    ]


def _tensor(sample: Sample, **changes: str) -> str:
    """JSON of a right tensor with some members changed."""
    right = {"name": json.dumps(sample.key), "shape": "[1]", "datatype": '"BYTES"'}
    return members({**right, "data": '["It works."]', **changes})


def _inference(*tensors: str, **members_: str) -> str:
    return members({**members_, "inputs": f"[{', '.join(tensors)}]"})


def _without(sample: Sample, key: str) -> str:
    tensor = json.loads(_tensor(sample))
    del tensor[key]
    return json.dumps(tensor)


def _tensors(sample: Sample) -> list[Wrong]:
    """The Open Inference Protocol: one tensor that is wrong."""
    shapes = ("[2]", "[0]", "[-1]", "[1.0]", "[true]", "[null]", "[1, 1, 2]")
    partly = _tensor(sample, data='["a", ["b"]]', shape="[2]")
    return [
        Wrong(
            "a tensor without name, shape or data, or with such of another type",
            422,
            "an input lacks its name, shape or data",
            as_json(
                (
                    *(_inference(_without(sample, key)) for key in ("name", "shape", "data")),
                    _inference(_tensor(sample, name="5")),
                    _inference(_tensor(sample, shape='"1"')),
                    _inference(_tensor(sample, data='"It works."')),
                )
            ),
        ),
        Wrong(
            "a tensor of another datatype, or of none",
            422,
            "this model takes texts, datatype BYTES",
            as_json(
                (
                    _inference(_tensor(sample, datatype='"FP32"', data="[1.5]")),
                    _inference(_without(sample, "datatype")),
                    _inference(_tensor(sample, datatype="null")),
                )
            ),
        ),
        Wrong(
            "a shape that is not that of the data",
            422,
            "the shape of an input is not that of its data",
            (
                *as_json(_inference(_tensor(sample, shape=each)) for each in shapes),
                *unshown([_inference(_tensor(sample, shape=f"[{'9' * 4000}]"))], ""),
                *as_json([_inference(_tensor(sample, shape="[0]"))], "/v2/models/{model}/infer"),
            ),
        ),
        Wrong(
            "data that is nested in part",
            422,
            "data is partly nested; send a flat list",
            as_json([_inference(partly)]),
        ),
        Wrong(
            "an element that is no text",
            422,
            "item 0 of the list: ",
            as_json(
                _inference(_tensor(sample, data=f"[{each}]"))
                for each in ("5", "null", "true", "{}", '""', '"\\ud800"')
            ),
        ),
    ]


def _tensors_together(sample: Sample) -> list[Wrong]:
    """The Open Inference Protocol: what stands around a tensor."""
    right = _tensor(sample)
    two = _tensor(sample, name='"colour"', data='["a", "b"]', shape="[2]")
    return [
        Wrong(
            "tensors of one name, or one that is no object",
            422,
            "input",
            as_json((_inference(right, right), _inference(right, "5"), _inference("null", right))),
        ),
        Wrong(
            "tensors of different numbers of elements",
            422,
            "the inputs have different numbers of elements",
            as_json([_inference(right, two)]),
        ),
        Wrong(
            "tensors that are no keys of the mode",
            422,
            "the inputs of this model are",
            as_json([_inference(right, _tensor(sample, name='"colour"'))]),
        ),
        Wrong(
            "an unknown key or parameter of the request or of a tensor",
            422,
            "the object has a key that is not known",
            as_json(
                (
                    _inference(_tensor(sample, colour="1")),
                    _inference(_tensor(sample, parameters='{"binary_data_size": 3}')),
                    _inference(right, model='"x"'),
                    _inference(right, parameters='{"colour": 1}'),
                )
            ),
        ),
        Wrong(
            "an output that there is not",
            422,
            "the only output is",
            as_json(
                _inference(right, outputs=each)
                for each in ('[{"name": "logits"}]', "{}", "null", '"answers"', "[5]")
            ),
        ),
        Wrong(
            "an `id` that is no text, or an empty one",
            422,
            "the id ",
            as_json(_inference(right, id=each) for each in ("7", '""', '"\\ud800"', "null")),
        ),
        Wrong(
            "a tensor without elements",
            422,
            "the list is empty",
            as_json([_inference(_tensor(sample, data="[]", shape="[0]"))]),
        ),
    ]
