"""Splits: of the wanted size, seeded, each label on both sides where it can be, groups whole."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.core.errors import InvalidRequest
from finery.data.splits import split, split_file

from .conftest import talk

labels = st.lists(st.sampled_from("abcd"), min_size=2, max_size=60)


@given(labels, st.floats(0.01, 0.9), st.integers(0, 5))
def test_every_row_is_on_one_side_and_both_sides_have_some(rows: list[str], fraction: float, seed: int) -> None:
    wanted = max(1, round(len(rows) * fraction))
    if wanted >= len(rows):
        return
    made = split(rows, fraction=fraction, seed=seed)
    assert sorted(made.train + made.validation) == list(range(len(rows)))
    assert made.train
    assert made == split(rows, fraction=fraction, seed=seed)


@given(st.lists(st.integers(0, 8), min_size=2, max_size=40), st.floats(0.1, 0.6), st.integers(0, 3))
def test_groups_stay_whole(groups: list[int], fraction: float, seed: int) -> None:
    rows = [f"label {group % 2}" for group in groups]
    if len(set(groups)) < 2:
        with pytest.raises(InvalidRequest):
            split(rows, fraction=fraction, seed=seed, groups=groups)
        return
    made = split(rows, fraction=fraction, seed=seed, groups=groups)
    assert made.train
    assert made.validation
    assert not {groups[row] for row in made.train} & {groups[row] for row in made.validation}


def test_size_is_exact_where_rows_are_single() -> None:
    rows = ["a"] * 700 + ["b"] * 250 + ["c"] * 50
    for count in (1, 10, 99, 500):
        assert len(split(rows, count=count, seed=4).validation) == count
    assert len(split(rows, fraction=0.1, seed=4).validation) == 100


def test_labels_keep_their_share_and_never_leave_training() -> None:
    rows = ["a"] * 700 + ["b"] * 250 + ["c"] * 49 + ["only once"]
    made = split(rows, fraction=0.1, seed=4)
    share = Counter(rows[row] for row in made.validation)
    assert abs(share["a"] - 70) <= 1
    assert abs(share["b"] - 25) <= 1
    assert abs(share["c"] - 5) <= 1
    assert share["only once"] == 0


def test_equal_rows_stay_together_without_groups_given() -> None:
    rows = [{"text": f"t{number % 10}", "label": "x"} for number in range(40)]
    made = split(rows, fraction=0.25, seed=1)
    texts = [{rows[row]["text"] for row in side} for side in (made.train, made.validation)]
    assert not texts[0] & texts[1]
    assert len(made.validation) in (8, 12)


def test_seeds_differ() -> None:
    rows = ["a"] * 100
    assert split(rows, count=10, seed=1).validation != split(rows, count=10, seed=2).validation


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        (["a"], {"fraction": 0.5}, "1 rows can't be split"),
        ([], {"count": 1}, "0 rows"),
        (["a"] * 10, {"fraction": 0.0}, "between 0 and 1"),
        (["a"] * 10, {"fraction": 1.0}, "between 0 and 1"),
        (["a"] * 10, {"fraction": float("nan")}, "between 0 and 1"),
        (["a"] * 10, {"count": 0}, "at least 1"),
        (["a"] * 10, {"count": 10}, "leaves none"),
        (["a"] * 10, {}, "either"),
        (["a"] * 10, {"fraction": 0.5, "count": 5}, "either"),
        ([{"text": "same", "label": "x"}] * 10, {"fraction": 0.2}, "duplicates"),
        (["a"] * 3, {"fraction": 0.5, "groups": [1, 2]}, "groups"),
    ],
)
def test_what_can_not_be_split_is_refused_in_words(
    rows: list[object], arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        split(rows, **arguments)  # type: ignore[arg-type]


def test_file_is_split_with_its_bytes_lines_and_labels(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": f"Text number {number * 7919}", "label": "ab"[number % 4 == 0]}) for number in range(200)
    ]
    source, training, validation = (tmp_path / f"{name}.jsonl" for name in ("source", "training", "validation"))
    source.write_bytes(b"\xef\xbb\xbf\r\n" + "\r\n".join(lines).encode())
    made = split_file(source, training, validation, fraction=0.2, seed=3)
    sides = {path: path.read_text(encoding="utf-8").splitlines() for path in (training, validation)}
    assert sides[training] == [lines[line - 2] for line in made.training_lines]
    assert sides[validation] == [lines[line - 2] for line in made.validation_lines]
    assert sorted(made.training_lines + made.validation_lines) == list(range(2, 202))
    assert Counter(json.loads(line)["label"] for line in sides[validation]) == {"a": 30, "b": 10}
    assert made == split_file(source, training, validation, fraction=0.2, seed=3)


def test_short_answers_are_stratified_like_labels(tmp_path: Path) -> None:
    rows = [talk(f"Question {number * 7919}, please?", "abcd"[number % 4]) for number in range(200)]
    source = tmp_path / "source.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    made = split_file(source, tmp_path / "training", tmp_path / "validation", count=40, seed=3)
    assert Counter((line - 1) % 4 for line in made.validation_lines) == {0: 10, 1: 10, 2: 10, 3: 10}
