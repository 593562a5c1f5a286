"""The sandboxed template: what the field's templates expect, and what it may not spend."""

from __future__ import annotations

from datetime import datetime

import pytest

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.message import Message
from bise_daemon.chat.template import MAX_TEMPLATE_BYTES, ChatTemplate
from bise_daemon.errors import Reason, RequestError

USER = [Message("user", "hi & <b>")]


def render(source: str, messages: list[Message] = USER) -> str:
    template = ChatTemplate(source, variables={"bos_token": "<s>"}, now=lambda: datetime(2024, 5, 7))
    return template.render(Conversation(messages))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] }}", "<s>hi & <b>"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "hi & <b>"}'),
        ("{{ {'é': 1} | tojson(indent=2) }}", '{\n  "é": 1\n}'),
        ("{{ strftime_now('%d %b %Y') }}", "07 May 2024"),
        ("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}", "TrueTrueTrue"),
        ("{{ eos_token }}{% if eos_token is defined %}no{% endif %}", ""),
        ("{% for m in messages %}\n  {% if loop.last %}\nlast\n  {% endif %}\n{% endfor %}\n", "last\n"),
        ("{% for m in messages %}{{ loop.index0 }}/{{ loop.length }}{% endfor %}", "0/1"),
        ("{% for n in range(9) %}{% if n == 3 %}{% break %}{% endif %}{{ n }}{% endfor %}", "012"),
        ("{% generation %}{{ messages[0].role }}{% endgeneration %}", "user"),
        ("{% set ns = namespace(n=0) %}{% for n in range(4) %}{% set ns.n = ns.n + n %}{% endfor %}{{ ns.n }}", "6"),
        ("{% macro twice(x) %}{{ x ~ x }}{% endmacro %}{{ twice('ab') | upper }}", "ABAB"),
        ("{{ 'a,b'.split(',') | join('-') }}{{ '%s=%02d' % ('x', 7) }}{{ 'ab' * 2 }}", "a-bx=07abab"),
    ],
)
def test_templates_find_what_they_expect(source: str, text: str) -> None:
    assert render(source) == text


def test_a_templates_refusal_reaches_the_caller() -> None:
    with pytest.raises(RequestError, match="roles must alternate") as refusal:
        render("{{ raise_exception('roles must alternate') }}")
    assert refusal.value.reason is Reason.INVALID_MESSAGE


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}{{ raise_exception.__globals__['json'] }}",
        "{{ 'a'.format_map({}) }}",
        "{{ messages[7].content }}",
        "{{ 1 / 0 }}",
        "{{ none + 1 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_escapes_and_failures_are_refusals(source: str) -> None:
    with pytest.raises(RequestError) as refusal:
        render(source)
    assert refusal.value.reason is Reason.INVALID_MESSAGE
    assert len(refusal.value.message) < 1000


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**9 }}",
        "{{ 10**9 * 'x' }}",
        "{{ 9 ** 999999 }}",
        "{{ 2 ** 1000 * 2 ** 1000 }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{% for n in range(10**6) %}{% endfor %}",
        "{% for n in range(99999) %}{{ 'x' * 100 }}{% endfor %}",
        "{% set ns = namespace(s='xxxx') %}{% for n in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='xxxx') %}{% for n in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='xxxx') %}{% for n in range(99) %}{% set ns.s = ns.s | replace('x', 'xx') %}"
        "{% endfor %}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ 'x'.ljust(10**9) }}",
        "{{ [1] | tojson(indent=10**9) }}",
    ],
)
def test_large_values_are_refused_before_they_are_made(source: str) -> None:
    with pytest.raises(RequestError):
        render(source)


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% set b = range(99999) | list %}{% endfor %}",
        "{% set s = ('x,' * 1500).split(',') %}{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_long_work_is_cut_short(source: str) -> None:
    with pytest.raises(RequestError, match="expected at most 1000000 steps"):
        render(source)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{% for %}", "in line 1"),
        ("{{ 'x' | center(9) }}", "No filter named 'center'"),
        ("x" * (MAX_TEMPLATE_BYTES + 1), "at most 262144 bytes, got 262145"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "RecursionError"),
    ],
)
def test_a_template_that_does_not_compile_is_refused(source: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ChatTemplate(source, variables={})
