"""Runs of words: what counts as the same words, and what is too little to count."""

import codecs

import numpy as np
import pytest

from finery.safety import overlaps
from finery.safety.overlaps import Runs, distinctive, from_bytes, hashes, to_bytes

WORK = (
    "It was the custom of the harbour master to walk along the northern quay before the fog had lifted, counting the "
    "boats that hadn't come home and writing their names with a carpenter's pencil on the inside of his left sleeve."
)
WORDS = WORK.split()


def found(text: str) -> bool:
    return Runs.of(15, [hashes(WORK, 15)]).occur_in(text)


@pytest.mark.parametrize("begin", range(0, len(WORDS) - 15, 4))
def test_fifteen_words_are_found_and_fourteen_are_not(begin: int) -> None:
    assert found(f"So they say: {' '.join(WORDS[begin : begin + 15])}; nothing else.")
    assert not found(f"So they say: {' '.join(WORDS[begin : begin + 14])}; nothing else.")


@pytest.mark.parametrize(
    "text",
    [
        WORK.upper(),
        WORK.replace(" ", "\n\n  "),
        "* " + WORK.replace(",", " --"),
        WORK.replace("'", "’"),
        WORK.translate(str.maketrans("aeopc", "аеорс")),
        "\u200b".join(WORK),
        codecs.encode(WORK, "rot13"),
    ],
    ids=["capitals", "lines", "marks", "apostrophes", "look-alikes", "hidden", "rot13"],
)
def test_the_same_words_are_found_however_they_are_written(text: str) -> None:
    assert found(text)


def test_other_words_in_between_or_in_another_order_are_another_text() -> None:
    assert not found(" and ".join(WORDS))
    assert not found(" ".join(reversed(WORDS)))
    assert not Runs.of(15, []).occur_in(WORK)
    assert not found("")


def test_numbers_and_single_letters_are_no_run() -> None:
    counted = " ".join(map(str, range(200)))
    assert not len(hashes(counted, 15))
    assert not len(hashes("a b c d e f g h i j k l m n o p q r s t u v w x y z", 15))
    assert len(hashes(WORK, 15)) == len(WORDS) - 14


def test_what_many_rows_say_is_no_rows_own() -> None:
    greeting = "thank you very much for writing to our support team today we are always glad to help you with this"
    rows = [f"{greeting} {WORK}", *(f"{greeting} number {i}" for i in range(5))]
    own = Runs(15, distinctive(rows, 15, most=3))
    assert own.occur_in(WORK)
    assert not own.occur_in(greeting)
    assert not Runs(15, distinctive([], 15, most=3)).occur_in(WORK)


def test_of_many_rows_a_share_is_kept_and_long_pieces_are_still_found() -> None:
    draw = np.random.default_rng(0)
    text = " ".join(f"word{i}letters" for i in draw.permutation(4000))
    every, some = distinctive([text], 15, most=3), distinctive([text], 15, most=3, one_in=4)
    assert len(every) == 4000 - 14
    assert 0.15 * len(every) < len(some) < 0.35 * len(every)
    assert Runs(15, some).occur_in(text[20_000:22_000])


def test_stored_runs_are_the_same_on_every_machine() -> None:
    """They lie in people's stores: whoever changes how runs are hashed has to make them anew."""
    kept = hashes(WORK, 15)
    assert int(kept[0]) == EXPECTED
    assert (from_bytes(to_bytes(kept)) == kept).all()
    assert overlaps.to_bytes(kept[:1]) == EXPECTED.to_bytes(8, "little")


EXPECTED = 0x627E233BC5C432AD
