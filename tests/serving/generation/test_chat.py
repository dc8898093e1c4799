"""Chat templates beside transformers' own rendering, and what they must not do."""

from __future__ import annotations

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from tests.serving.generation.helpers import TEMPLATE
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.generation.chat import ChatTemplate

MESSAGES = [
    {"role": "system", "content": "Be <short>."},
    {"role": "user", "content": "It's {{ 7 * 7 }} & café"},
]
TEMPLATES = (
    TEMPLATE,
    "{{ bos_token }}\n{%- for m in messages %}\n  {%- if loop.first %}{% continue %}{% endif %}\n"
    "{{ m | tojson }}\n{%- endfor %}\n{% if add_generation_prompt %}[go]{% endif %}",
    "{% for m in messages %}{% generation %}{{ m.content | trim }}{% endgeneration %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}{% if tools is defined and tools %}tools{% endif %}",
)


@pytest.mark.parametrize("source", TEMPLATES)
def test_prompts_are_those_of_transformers(source: str) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    [[expected], _] = render_jinja_template(
        [MESSAGES], chat_template=source, add_generation_prompt=True, **tokens
    )
    assert ChatTemplate(source, tokens).render(MESSAGES) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
    ],
)
def test_template_stays_in_its_sandbox(source: str) -> None:
    with pytest.raises(RequestError, match="does not take these messages") as caught:
        ChatTemplate(source, {}).render(MESSAGES)
    assert caught.value.status == 422


def test_what_a_template_refuses_is_told() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}", {})
    with pytest.raises(RequestError, match=r"\(Roles must alternate\)"):
        template.render(MESSAGES)


def test_broken_template_is_refused_at_load() -> None:
    with pytest.raises(ArtifactError, match="chat_template"):
        ChatTemplate("{% for %}", {})
