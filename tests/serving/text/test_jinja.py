"""Templates beside transformers' own rendering, what they must not do, and what they may cost."""

from __future__ import annotations

import time

import pytest
from jinja2.exceptions import SecurityError
from transformers.utils.chat_template_utils import render_jinja_template

from tests.serving.generation.helpers import TEMPLATE
from torchscript_bundle.serving.text.jinja import RefusedError, Template, TooMuchError

MESSAGES = [
    {"role": "system", "content": "Be <short>."},
    {"role": "user", "content": "It's {{ 7 * 7 }} & café"},
    {"role": "assistant", "content": "49", "name": "ada"},
    {"role": "user", "content": "Why?"},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
#: As transformers gives them where a call names none.
NOTHING = {"tools": None, "documents": None}
TEMPLATES = (
    TEMPLATE,
    "{{ bos_token }}\n{%- for m in messages %}\n  {%- if loop.first %}{% continue %}{% endif %}\n"
    "{{ m | tojson }}\n{%- endfor %}\n{% if add_generation_prompt %}[go]{% endif %}",
    "{% for m in messages %}{% generation %}{{ m.content | trim }}{% endgeneration %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}{% if tools is defined and tools %}tools{% endif %}",
    # Templates of Command-R's kind ask for tools and documents without `is defined`.
    "{% if tools is none and documents is none %}plain{% else %}{{ tools | length }}{% endif %}"
    "{% for m in messages if m.role != 'system' %}{{ loop.index }}/{{ loop.length }}/"
    "{{ loop.revindex }}{{ loop.previtem is defined }}{{ loop.cycle('a', 'b') }}{{ m.content }}"
    "{% else %}nobody{% endfor %}",
    "{% macro say(m, depth=2) %}{{ m.content }}{% if depth %}{{ say(m, depth - 1) }}{% endif %}"
    "{% endmacro %}{% for m in messages[::-1] %}{{ say(m) }}{{ m.get('name', 'x') * 2 }}"
    "{% for key, value in m.items() %}{{ key ~ value | upper }}{% endfor %}{% endfor %}",
    "{% for m in messages recursive %}{% if m is mapping %}{{ m.content }}{{ loop(['a', 'b']) }}"
    "{% else %}{{ m }}{{ loop.depth }}{% endif %}{% endfor %}"
    "{{ dict(context=1)['context'] }}{{ 2 ** 3 }}{% for i in range(3) %}{{ i }}{% endfor %}"
    "{% for x in nowhere %}{{ x }}{% else %}none{% endfor %}",
)


@pytest.mark.parametrize("source", TEMPLATES)
def test_texts_are_those_of_transformers(source: str) -> None:
    [[expected], _] = render_jinja_template(
        [MESSAGES], chat_template=source, add_generation_prompt=True, **TOKENS
    )
    values = {"messages": MESSAGES, "add_generation_prompt": True, **NOTHING, **TOKENS}
    assert Template(source).render(**values) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
    ],
)
def test_template_stays_in_its_sandbox(source: str) -> None:
    with pytest.raises(SecurityError):
        Template(source).render(messages=MESSAGES)


def test_what_a_template_refuses_is_its_own_sentence() -> None:
    with pytest.raises(RefusedError, match=r"^Roles must alternate$"):
        Template("{{ raise_exception('Roles must alternate') }}").render()


@pytest.mark.parametrize(
    ("source", "says"),
    [("{% for %}", "Expected an expression"), ("{{ 'a' | no_such_filter }}", "No filter named")],
)
def test_what_is_no_template_is_refused_at_once(source: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Template(source)


#: Each would run for hours, or fill the memory.
ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "nested loops over messages": "{% for a in m %}{% for b in m %}{% for c in m %}{% set x = 1 %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(99) }}",
    "recursive loops": "{% for a in m recursive %}{% if loop.depth < 9 %}{{ loop(m) }}{% endif %}"
    "{% endfor %}",
    "much text": "{% for a in range(99999) %}{{ 'abcdefghij' * 99 }}{% endfor %}",
    "a text multiplied": "{{ 'a' * 10 ** 10 }}",
    "a list multiplied": "{{ (10 ** 9 * [1]) | length }}",
    "a power": "{{ 7 ** (7 ** 7) }}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_cost_is_bounded(kind: str) -> None:
    started = time.process_time()
    with pytest.raises(TooMuchError):
        Template(ENDLESS[kind]).render(m=["a"] * 999)
    assert time.process_time() - started < 10


def test_no_template_can_write_what_counts_its_steps() -> None:
    """Each rendering has a count of its own."""
    template = Template("{% set steps = 9 %}{% for a in range(90000) %}{% endfor %}{{ steps }}")
    assert [template.render() for _ in range(8)] == ["9"] * 8
