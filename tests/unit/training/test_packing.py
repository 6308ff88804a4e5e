"""Rows of documents: nothing lost, nothing predicted across documents."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.training.packing import pack

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


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one document"):
        pack([], "cpu")
    with pytest.raises(ValueError, match="document 1 has 0 tokens"):
        pack([SimpleNamespace(tokens=[1], weights=[1.0]), SimpleNamespace(tokens=[], weights=[])], "cpu")
    with pytest.raises(ValueError, match="document 0 has 2 tokens and 1 weights"):
        pack([SimpleNamespace(tokens=[1, 2], weights=[1.0])], "cpu")
