import time

import pytest

from finery.core.errors import InvalidRequest
from finery.safety.blocklists import Item, Matcher, check


def found(text: str, *items: Item) -> list[str]:
    return [item.text for item in Matcher.of(items).find(text)]


def term(text: str) -> Item:
    return Item(id=text, text=text)


def expression(text: str) -> Item:
    return Item(id=text, text=text, is_regex=True)


def test_terms_match_whole_words_whatever_their_case() -> None:
    assert found("Project BLUEBIRD ships", term("bluebird")) == ["bluebird"]
    assert found("bluebirds", term("bluebird")) == []
    assert found("say c++!", term("C++")) == ["C++"]
    assert found("x", term("x"), term("y")) == ["x"]


def test_terms_are_found_through_disguises() -> None:
    assert found("b l u e b i r d", term("bluebird")) == ["bluebird"]
    assert found("blu\u200bebird", term("bluebird")) == ["bluebird"]


def test_expressions_are_re2s_and_see_case() -> None:
    assert found("ticket AB-1234", expression(r"\b[A-Z]{2}-\d{4}\b")) == [r"\b[A-Z]{2}-\d{4}\b"]
    assert found("ticket ab-1234", expression(r"\b[A-Z]{2}-\d{4}\b")) == []


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(?=a)b", "(", r"((a{900}){900}){900}", "a*"])
def test_an_expression_that_cant_be_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(expression(pattern))
    assert repr(pattern) in refused.value.message


def test_a_catastrophic_expression_is_harmless() -> None:
    matcher = Matcher.of([check(expression("(a+)+$"))])
    text = "a" * 20_000 + "b"
    began = time.process_time()
    assert matcher.find(text) == []
    # Backtracking would take longer than the universe has existed; this only tells the two apart.
    assert time.process_time() - began < 60


def test_many_terms_are_told_apart() -> None:
    items = [term(f"term{i}") for i in range(3000)]
    assert found("one term2999 and term7", *items) == ["term7", "term2999"]
