"""Moulds give the very same rendering and trained spans as the template, or step aside."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finery.core.errors import InvalidRequest
from finery.data.fast_rendering import FastRenderer
from finery.data.fast_tokenizer import accelerated
from finery.modeling.rendering import Renderer, Span
from finery.modeling.template import ChatTemplate

from .conftest import CHATML, ENDLESS, STRICT, talk

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" + CHATML
)
ENDED = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] | trim + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}"
)
THINKING = (
    "{% for message in messages %}{% set said = message['content'].split('</think>')[-1] %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + said + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHOUTING = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] | upper + '\n' }}{% endfor %}"
SOURCES = [CHATML, STRICT, ENDLESS, DEFAULT_SYSTEM, ENDED, THINKING, SHOUTING]

CONTENTS = st.sampled_from(["a", "a b", " a", "a\n", "", "<<1+1=2>>", "x</think>y", "\uf8f0", "assistant", "é🙂", None])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "assistant"]), "content": CONTENTS},
        optional={"weight": st.sampled_from([0, 1])},
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(params=SOURCES, ids=range(len(SOURCES)))
def both(request: pytest.FixtureRequest) -> tuple[Renderer, FastRenderer]:
    exact = Renderer(request.param, {"eos_token": "<|endoftext|>"})
    return exact, FastRenderer(exact)


def outcome(renderer: Any, messages: list[Any]) -> Any:
    try:
        rendered = renderer.render_trained(messages, None, turns_end_with_token=True)
    except InvalidRequest as error:
        return error.message
    return rendered.text, [(span.start, span.limit, span.weight) for span in rendered.spans]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MESSAGES, min_size=1, max_size=4))
def test_every_row_is_rendered_as_the_template_does(
    both: tuple[Renderer, FastRenderer], conversations: list[list[Any]]
) -> None:
    exact, fast = both
    for messages in conversations * 6:
        assert outcome(fast, messages) == outcome(exact, messages)


def test_the_mould_is_really_used_and_its_ends_are_right() -> None:
    exact = Renderer(CHATML, {})
    fast = FastRenderer(exact)
    rows = [talk(f"How is {number}?", f"It is {number * 7}.")["messages"] for number in range(400)]
    rendered = [fast.render_trained(row, None, turns_end_with_token=True) for row in rows]
    assert fast.uses_moulds
    fast._exact = None  # type: ignore[assignment]  # from here on only moulds can answer
    again = fast.render_trained(rows[1], None, turns_end_with_token=True)
    assert again == rendered[1] == exact.render_trained(rows[1], None, turns_end_with_token=True)
    start = again.text.index("It is 7.")
    assert again.spans == [Span(start, start + len("It is 7."), len(again.text), 1.0)]


def test_a_template_that_changes_contents_puts_moulds_out() -> None:
    source = "{% for m in messages %}{{ m['role'] + ': ' + m['content'][:3] + '\n' }}{% endfor %}"
    exact = Renderer(source, {})
    fast = FastRenderer(exact)
    assert fast.uses_moulds
    for content in ("a", "abcd", "a", "abcd"):
        row = talk("q", content)["messages"]
        assert outcome(fast, row) == outcome(exact, row)
    assert not fast.uses_moulds


def test_examples_are_the_same_token_by_token(template_of: Callable[[str], ChatTemplate]) -> None:
    template = template_of(DEFAULT_SYSTEM)
    rows = [talk(f"Frage {n}: süß 🙂?", f"Antwort {n}" * (n % 3 + 1), weight=n % 2) for n in range(300)]
    rows += [{"prompt": "a", "completion": " b"}, {"messages": [{"role": "robot", "content": "x"}]}]
    quick, exact = (t.encode_examples(rows) for t in (accelerated(template), template))
    assert quick[:-1] == exact[:-1]
    assert str(quick[-1]) == str(exact[-1])
