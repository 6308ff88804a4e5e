"""Rows of documents: nothing lost, nothing predicted across documents."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.training.packing import LEAST_SAVED, pack, packed_tokens

DOCUMENTS = st.lists(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=9),
    min_size=1,
    max_size=6,
)


@given(DOCUMENTS)
def test_each_document_keeps_its_tokens_positions_and_targets(documents: list[list[tuple[int, float]]]) -> None:
    packed = pack([SimpleNamespace(tokens=[t for t, _ in d], weights=[w for _, w in d]) for d in documents], "cpu")
    assert packed.documents == len(documents)
    assert packed.starts[-1] == len(packed.tokens_T)
    for (begin, end), document in zip(pairwise(packed.starts), documents, strict=True):
        tokens = [token for token, _ in document]
        weights = [weight for _, weight in document]
        assert packed.tokens_T[begin:end].tolist() == tokens
        assert packed.positions_T[begin:end].tolist() == list(range(len(document)))
        assert packed.targets_T[begin : end - 1].tolist() == tokens[1:]
        assert packed.weights_T[begin:end].tolist() == [*weights[1:], 0.0]
    assert packed.trained_N.tolist() == packed.weights_T.nonzero()[:, 0].tolist()


def examples(documents: list[list[tuple[int, float]]]) -> list[SimpleNamespace]:
    return [SimpleNamespace(tokens=[t for t, _ in d], weights=[w for _, w in d]) for d in documents]


BEGINNINGS = st.lists(st.tuples(st.integers(0, 99), st.just(0.0)), min_size=0, max_size=90)
ALIKE = st.tuples(BEGINNINGS, BEGINNINGS, DOCUMENTS).map(
    lambda drawn: [[*drawn[0], *(drawn[1] if index % 2 else []), *rest] for index, rest in enumerate(drawn[2])]
)


@given(ALIKE)
def test_a_document_whose_beginning_is_shared_is_still_whole(documents: list[list[tuple[int, float]]]) -> None:
    packed = pack(examples(documents), "cpu", share=True)
    before = packed.before or (None,) * (len(packed.starts) - 1)
    ranges = list(pairwise(packed.starts))
    trained = packed.trained_N.tolist()
    for document, last in zip(documents, packed.last_D.tolist(), strict=True):
        (segment,) = (index for index, (begin, end) in enumerate(ranges) if begin <= last < end)
        assert ranges[segment][1] == last + 1
        chain = [segment]
        while before[chain[0]] is not None:
            assert before[chain[0]] < chain[0]
            chain.insert(0, before[chain[0]])
        places = [place for index in chain for place in range(*ranges[index])]
        assert packed.tokens_T[places].tolist() == [token for token, _ in document]
        assert packed.positions_T[places].tolist() == list(range(len(document)))
        weights = [weight for _, weight in document[1:]]
        assert packed.weights_T[places].tolist() == [*weights, 0.0]
        wanted = [(token, weight) for token, weight in document[1:] if weight]
        mine, trained = trained[: len(wanted)], trained[len(wanted) :]
        assert list(zip(packed.targets_T[mine].tolist(), packed.weights_T[mine].tolist(), strict=True)) == wanted
    assert not trained
    assert packed_tokens(examples(documents), share=True) == len(packed.tokens_T)


def test_each_level_of_a_common_beginning_lies_in_the_row_once() -> None:
    system = [(1, 0.0)] * LEAST_SAVED
    # A question's last token predicts the trained answer, so it stays with each.
    one, two = ([(token, 0.0)] * (LEAST_SAVED + 1) for token in (2, 3))
    pairs = [[*system, *question, (answer, 1.0), (0, 1.0)] for question in (one, two) for answer in (8, 9)]
    packed = pack(examples(pairs), "cpu", share=True)
    assert len(packed.tokens_T) == LEAST_SAVED + 2 * LEAST_SAVED + 4 * 3
    assert packed.before == (None, 0, 1, 1, 0, 4, 4)
    assert packed.documents == 4


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one document"):
        pack([], "cpu")
    with pytest.raises(ValueError, match="document 1 has 0 tokens"):
        pack([SimpleNamespace(tokens=[1], weights=[1.0]), SimpleNamespace(tokens=[], weights=[])], "cpu")
    with pytest.raises(ValueError, match="document 0 has 2 tokens and 1 weights"):
        pack([SimpleNamespace(tokens=[1, 2], weights=[1.0])], "cpu")
