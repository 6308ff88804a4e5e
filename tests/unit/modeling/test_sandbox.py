"""Templates from strangers: what they may not do ends as an error, soon; the rest works as in transformers."""

import time
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from finery.modeling.sandbox import MAX_SECONDS, TemplateSandbox

BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 'a' * 1000000000 }}",
    "{{ 1000000000 * [1] }}",
    "{{ 9**9**9 }}",
    "{{ 99999999999999999999 * 99999999999999999999 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{x}'.format_map(messages[0]) }}",
    "{{ 'a'.center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ 'a'.zfill(1000000000) }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 'a'|format(1) }}",
    "{{ range(1000000000)|list }}",
    "{{ lipsum(n=1000000) }}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = [n.x, n.x]|join %}{% endfor %}",
    "{% set n = namespace(x=['ab']) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=['ab']) %}{% for i in range(60) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}{{ n }}",
    "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}{{ n|tojson }}",
    "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = namespace(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}",
    "{{ ('x' * 4000000).replace('x', 'y' * 4000) }}",
    "{{ ('x' * 4000000)|replace('x', 'y' * 4000) }}",
    "{{ ('\n' * 4000000)|indent(100, blank=true) }}",
    "{{ ('y' * 4000).join(('x ' * 40000).split()) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% set r = range(9999)|list %}{% for i in r %}{{ r|sort|first }}{% endfor %}",
]
ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''|attr('__class__') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__.json }}",
    "{{ range.__class__.mro() }}",
    "{{ dict.fromkeys(range(9)) }}",
    "{{ messages.append(1) }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update(role='x') }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages[0].__setitem__('role', 'x') }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as p %}",
    "{% extends '/etc/passwd' %}",
    "{{ 'abc'.encode() }}",
    "{{ (1).to_bytes(1000000000) }}",
    "{{ messages|pprint }}",
    "{{ 'x'|xmlattr }}",
]
ORDINARY = [
    "{% for m in messages %}{{ m.role|upper }}: {{ m['content']|trim }}{% if not loop.last %};{% endif %}{% endfor %}",
    "{% set n = namespace(i=0) %}{% for m in messages %}{% set n.i = n.i + loop.index %}{% endfor %}{{ n.i * 2 - 1 }}",
    "{{ tools | tojson(indent=2) }}{{ messages[-1].content[::-1] }}{{ messages[1:] | length }}",
    "{% for m in messages %}{% if loop.index0 % 2 %}{% continue %}{% endif %}{{ loop.length }}{% endfor %}",
    "{% macro f(x, y=1) %}<{{ x ~ y }}>{% endmacro %}{{ f('a') }}{{ f(messages[0].role, y='é') }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(', ') }}",
    "{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}{{ 'x' in 'xyz' }}{{ messages[0] is mapping }}",
    "{% if strftime_now is defined %}{{ 'dated' }}{% else %}undated{% endif %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }}|{% endfor %}{{ messages[0].get('name', 'none') }}",
    "{%- generation %}{{ messages[1].content }}{% endgeneration %}{{ none }}{{ true }}{{ undefined_thing }}",
    "{{ ['b', 'a'] | sort | list }}{{ (1, 2) }}{{ {'k': [1, 'é']} | tojson }}{{ 7 // 2 }}{{ 'x' * 3 }}{{ 'a' 'b' }}",
]
VALUES: dict[str, Any] = {
    "messages": [{"role": "user", "content": " Hi <b>&</b> 'there'\n"}, {"role": "assistant", "content": "Grüße 🙂"}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "<é>"}}],
}


@pytest.fixture(scope="module")
def sandbox() -> TemplateSandbox:
    return TemplateSandbox()


@pytest.mark.parametrize("source", [*BOMBS, *ESCAPES])
def test_bombs_and_escapes_give_an_error_or_nothing(sandbox: TemplateSandbox, source: str) -> None:
    begun = time.process_time()
    try:
        text = sandbox.render_text(sandbox.from_string(source), VALUES)
    except TemplateError:
        text = ""
    assert text == ""
    # Not a measure of speed: a bomb that was let off would take minutes.
    assert time.process_time() - begun < 5 * MAX_SECONDS


@pytest.mark.parametrize("source", ORDINARY)
def test_ordinary_templates_render_as_in_transformers(sandbox: TemplateSandbox, source: str) -> None:
    wanted, _ = render_jinja_template(
        conversations=[VALUES["messages"]],
        tools=VALUES["tools"],
        chat_template=source.replace("strftime_now is defined", "false"),
    )
    assert sandbox.render_text(sandbox.from_string(source), VALUES) == wanted[0]


def test_a_template_raises_with_its_own_words(sandbox: TemplateSandbox) -> None:
    with pytest.raises(TemplateError, match="only users may speak"):
        sandbox.render_text(sandbox.from_string("{{ raise_exception('only users may speak') }}"), VALUES)


def test_values_stay_as_they_were(sandbox: TemplateSandbox) -> None:
    before = repr(VALUES)
    for source in ESCAPES:
        try:
            sandbox.render_text(sandbox.from_string(source), VALUES)
        except TemplateError:
            continue
    assert repr(VALUES) == before
