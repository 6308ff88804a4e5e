import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.safety import ngrams
from finery.safety.ngrams import PIECES, grams
from finery.safety.windows import NEW, STRIDE, WINDOW, passages, sentences, unfinished, windows


def test_the_same_words_have_the_same_buckets_wherever_they_stand() -> None:
    alone, inside = grams("kill him"), grams("He said: KILL -- him, twice!")
    assert set(alone.buckets) <= set(inside.buckets)


def test_other_words_have_other_buckets() -> None:
    one, other = set(grams("kill").buckets), set(grams("love").buckets)
    assert not one & other


def test_starts_are_places_in_the_text_as_given() -> None:
    text = "...so, kill him"
    found = grams(text)
    kill = grams("kill").buckets[0]
    assert text[found.starts[list(found.buckets).index(kill)] :].startswith("kill")


def test_the_number_of_grams_is_that_of_words_pairs_and_pieces() -> None:
    found = grams("ab cde")  # as " ab cde "
    assert len(found.buckets) == 2 + 1 + sum(8 - size + 1 for size in PIECES)


@given(st.text(max_size=300))
def test_any_text_has_grams_within_the_table(text: str) -> None:
    found = grams(text)
    assert len(found.buckets) == len(found.starts)
    assert np.all((found.buckets >= 0) & (found.buckets < ngrams.TABLE))
    assert np.all((found.starts >= 0) & (found.starts <= len(text)))


@given(st.integers(0, 5000))
def test_windows_cover_every_character(length: int) -> None:
    found = windows("x" * length)
    covered = set().union(*(range(begin, end) for begin, end in found))
    assert covered == set(range(length))
    assert all(end - begin <= WINDOW for begin, end in found)
    assert all(later[0] - earlier[0] <= STRIDE for earlier, later in itertools.pairwise(found))


def test_sentences_end_at_stops_and_lines_and_short_ones_join_the_next() -> None:
    text = "No. Take the second road on the left.\nWill it rain tomorrow in Lisbon?  It surely might!"
    assert [text[begin:end].strip() for begin, end in sentences(text)] == [
        "No. Take the second road on the left.",
        "Take the second road on the left.",
        "Will it rain tomorrow in Lisbon?",
        "It surely might!",
    ]


@given(st.text(alphabet="ab .!?\n。", max_size=1500))
def test_sentences_cover_a_text_and_fit_a_window(text: str) -> None:
    found = sentences(text)
    assert all(begin < end <= begin + WINDOW for begin, end in found)
    assert all(one[1] <= other[0] or one[1] == other[1] for one, other in itertools.pairwise(found))
    if len(text) <= WINDOW:
        assert set().union(*(range(*span) for span in found)) == set(range(len(text)))


@given(st.text(alphabet="ab .!?\n。", max_size=1500), st.integers(0, 1500))
def test_passages_show_all_that_is_new_from_the_sentence_on_that_it_begins_in(text: str, read: int) -> None:
    read = min(read, len(text))
    found = passages(text, read)
    assert all(len(passage) <= WINDOW for passage in found)
    end = read
    for passage in found:
        end = min(end + NEW, len(text))
        assert text[:end].endswith(passage)
        begin = end - len(passage)
        assert begin == max(0, end - WINDOW) or begin in {start for start, _ in sentences(text)} | {0} or begin <= read
    assert end == len(text)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("", ""),
        ("It rains.", ""),
        ("It rains. ", ""),
        ("It rains. I want", "I want"),
        ("What (really?)", ""),
        ("a\nb", "b"),
    ],
)
def test_a_sentence_that_breaks_off(text: str, rest: str) -> None:
    assert text[unfinished(text) :] == rest
