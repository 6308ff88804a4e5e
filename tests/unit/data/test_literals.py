"""What is found is what a search for each literal finds."""

from hypothesis import given
from hypothesis import strategies as st

from finery.data.literals import Literals

LITERALS = ["<|im_end|>", "<|im", "<s>", "[", "\uf8f0"]


@given(st.text(alphabet="<|im_end>s[x\uf8f0", max_size=30))
def test_found_means_one_of_them_is_there(text: str) -> None:
    found = Literals(LITERALS).find(text)
    assert (found is not None) == any(literal in text for literal in LITERALS)
    assert found is None or (found in LITERALS and found in text)


def test_the_first_is_told_and_of_two_at_one_place_the_longest() -> None:
    assert Literals(LITERALS).find("a <|im_end|> [") == "<|im_end|>"
    assert Literals(LITERALS).find("a <|im_start|> [") == "<|im"


def test_nothing_is_found_where_nothing_is_looked_for() -> None:
    assert Literals([]).find("anything") is None
    assert Literals([""]).find("anything") is None
