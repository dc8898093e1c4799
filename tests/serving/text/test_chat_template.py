"""Messages as chat templates of each kind write them, and what none may leave out in silence."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from tests.serving.generation.helpers import TEMPLATE
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.text.chat_template import ChatTemplate

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
#: Writes any role as it is called.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Knows three roles and passes over others.
THREE = (
    "{% for m in messages %}{% if m.role == 'system' %}[S]{{ m.content | trim }}"
    "{% elif m.role == 'user' %}[U]{{ m.content | trim }}"
    "{% elif m.role == 'assistant' %}[A]{{ m.content.split('</think>')[-1] }}{{ eos_token }}"
    "{% endif %}{% endfor %}[A]"
)
#: Takes instructions at the beginning alone.
FIRST = (
    "{% if messages[0].role == 'system' %}{% set said = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}"
    "{% if m.role == 'user' %}[U]{% if loop.first and said %}<<{{ said }}>>{% endif %}"
    "{{ m.content }}{% elif m.role == 'assistant' %}[A]{{ m.content }}{% endif %}{% endfor %}[A]"
)
#: Has no instructions at all, and says so, or does not.
STRICT = (
    "{% for m in messages %}{% if m.role not in ('user', 'assistant') %}"
    "{{ raise_exception('System role not supported') }}{% endif %}[{{ m.role }}]{{ m.content }}"
    "{% endfor %}"
)
SILENT = "{% for m in messages %}{% if m.role == 'user' %}[U]{{ m.content }}{% endif %}{% endfor %}"
#: Knows the newer name.
NEWER = (
    "{% for m in messages %}{% if m.role == 'developer' %}[D]{{ m.content }}"
    "{% elif m.role == 'system' %}[S]{{ m.content }}{% else %}[{{ m.role }}]{{ m.content }}"
    "{% endif %}{% endfor %}"
)


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def render(source: str, *pairs: tuple[str, str]) -> str:
    return ChatTemplate(source, TOKENS).render(said(*pairs))


@pytest.mark.parametrize("source", [TEMPLATE, CHATML, THREE, FIRST, NEWER])
def test_prompts_are_those_of_transformers(source: str) -> None:
    messages: list[Any] = [
        *said(("system", "Be <short>."), ("user", "It's {{ 7 * 7 }} & café")),
        {"role": "assistant", "content": "<think>seven sevens</think>49", "name": "ada"},
        *said(("user", "Why?")),
    ]
    [[expected], _] = render_jinja_template(
        [messages], chat_template=source, add_generation_prompt=True, **TOKENS
    )
    assert ChatTemplate(source, TOKENS).render(messages) == expected


@pytest.mark.parametrize("source", [TEMPLATE, CHATML, THREE, FIRST])
def test_developer_is_system_where_a_template_does_not_name_it(source: str) -> None:
    """Whether it would have left such a message out, or passed on a role that no model has seen."""
    asked = ("user", "Why?")
    assert render(source, ("developer", "Be short."), asked) == render(
        source, ("system", "Be short."), asked
    )


def test_developer_stays_where_a_template_names_it() -> None:
    asked = ("user", "Why?")
    assert render(NEWER, ("developer", "Be short."), asked) == "[D]Be short.[user]Why?"
    assert render(NEWER, ("system", "Be short."), asked) == "[S]Be short.[user]Why?"


@pytest.mark.parametrize(
    ("source", "pairs", "says"),
    [
        (SILENT, [("system", "a"), ("user", "b")], "message 0, of the role system"),
        (SILENT, [("developer", "a"), ("user", "b")], "message 0, of the role developer"),
        (SILENT, [("user", "a"), ("assistant", "b"), ("user", "c")], "message 1, of the role as"),
        (FIRST, [("user", "a"), ("system", "b"), ("user", "c")], "message 1, of the role system"),
        (FIRST, [("system", "a"), ("developer", "b"), ("user", "c")], "message 0, of the role sys"),
    ],
)
def test_message_that_a_template_leaves_out_is_refused(
    source: str, pairs: list[tuple[str, str]], says: str
) -> None:
    template = ChatTemplate(source, TOKENS)
    for _ in range(2):  # what was found is remembered
        with pytest.raises(RequestError, match=says) as caught:
            template.render(said(*pairs))
        assert caught.value.status == 422


def test_empty_message_may_be_left_out() -> None:
    assert render(SILENT, ("system", ""), ("user", "Why?")) == "[U]Why?"
    assert render(CHATML, ("system", ""), ("user", "Why?")).startswith("<|im_start|>system\n<|im")


def test_words_of_the_trial_are_not_mixed_up() -> None:
    """With more than ten messages, the place of one begins that of another."""
    pairs = [("user" if at % 2 == 0 else "assistant", f"text {at}") for at in range(25)]
    assert render(THREE, *pairs).count("text") == 25
    with pytest.raises(RequestError, match="leaves message 12, of the role system"):
        render(FIRST, *pairs[:12], ("system", "Be short."), *pairs[12:])


def test_what_a_template_refuses_is_told() -> None:
    with pytest.raises(RequestError, match=r"\(System role not supported\)") as caught:
        render(STRICT, ("system", "Be short."), ("user", "Why?"))
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "mistake",
    [
        "{{ messages[0].content + 1 }}",
        "{{ messages[99].content }}",
        "{{ none.a.b }}",
        "{{ 1 // 0 }}",
        "{{ range(10 ** 9) | length }}",
        "{{ messages[0].content | int + messages }}",
        "{{ 'abc'['x'].y }}",
        "{{ messages.append(1) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ strftime_now(5) }}",
        "{{ messages | tojson(indent=5) | fromjson }}",
        "{{ documents | length }}",
        "{% for tool in tools %}{% endfor %}",
        "{% include 'other' %}",
        "{{ messages[0].content.encode('no such codec') }}",
    ],
)
def test_mistake_in_a_template_is_told_by_a_sentence(
    mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    if "fromjson" in mistake:
        with pytest.raises(ArtifactError, match="chat_template"):
            ChatTemplate(mistake, {})
        return
    with caplog.at_level(logging.WARNING):
        template = ChatTemplate(mistake, {})
    assert "fails on a chat of one message" in caplog.text
    with pytest.raises(RequestError, match="does not take these messages; send") as caught:
        template.render(said(("user", "a secret")))
    assert caught.value.status == 422
    assert "secret" not in caught.value.message + caplog.text


def test_cost_is_bounded() -> None:
    nested = "{% for m in messages %}{% for n in messages %}{% for o in messages %}"
    template = ChatTemplate(nested + "{% endfor %}{% endfor %}{{ m.content }}{% endfor %}", {})
    assert template.render(said(("user", "a"))) == "a"
    with pytest.raises(RequestError, match="send fewer or shorter") as caught:
        template.render(said(*[("user", "a")] * 999))
    assert caught.value.status == 413


def test_long_chat_is_no_cost() -> None:
    assert render(THREE, *[("user", "a long text " * 80)] * 1000).count("[U]") == 1000


@pytest.mark.parametrize("source", ["{% for %}", "{{ " + "(" * 5000])
def test_broken_template_is_refused_at_load(source: str) -> None:
    with pytest.raises(ArtifactError, match="chat_template"):
        ChatTemplate(source, {})
