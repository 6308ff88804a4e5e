"""The quality report on corpora with planted faults: duplicates, leaks, labels, languages, refusals, odd characters."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.data.corpus import Corpus
from finery.data.duplicates import exact_key, find_repeats, groups, shingles, similarity
from finery.data.quality import inspect
from finery.data.splits import split
from finery.data.texts import row_text

from .conftest import talk

Write = Callable[..., Path]
ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "pl"]


def words(rng: random.Random, count: int) -> str:
    """Pronounceable words, so that texts differ as much as texts do."""
    return " ".join(
        "".join(rng.choice(ONSETS) + rng.choice("aeiou") for _ in range(rng.randrange(1, 4))) for _ in range(count)
    )


def corpus(rng: random.Random, count: int) -> list[dict[str, Any]]:
    return [talk(words(rng, 12) + "?", words(rng, rng.randrange(20, 60)) + ".") for _ in range(count)]


def nearly(rng: random.Random, row: dict[str, Any]) -> dict[str, Any]:
    """A copy with one word replaced, some white space more, or in capitals."""
    question, answer = (message["content"] for message in row["messages"])
    parts = answer.split(" ")
    change = rng.randrange(3)
    if change == 0:
        parts[rng.randrange(len(parts))] = words(rng, 1)
    elif change == 1:
        parts[0] = "\n " + parts[0].upper()
    else:
        question = question.upper()
    return talk(question, " ".join(parts))


def scores(found: set[int], planted: set[int]) -> tuple[float, float]:
    right = len(found & planted)
    return right / len(planted), right / len(found) if found else 1.0


def test_planted_duplicates_are_found_with_recall_and_precision_of_95_percent(jsonl: Write) -> None:
    rng = random.Random(7)
    rows = corpus(rng, 1500)
    exact = [rng.choice(rows) for _ in range(150)]
    near = [nearly(rng, rng.choice(rows)) for _ in range(150)]
    rows += [*exact, *near]
    repeats = find_repeats(Corpus(jsonl(rows)))
    found_exact = {repeat.row for repeat in repeats if repeat.exact}
    found_near = {repeat.row for repeat in repeats if not repeat.exact}
    assert scores(found_exact, set(range(1500, 1650))) == (1.0, 1.0)
    recall, precision = scores(found_near | found_exact, set(range(1500, 1800)))
    assert recall >= 0.95
    assert precision >= 0.95


def test_planted_leaks_are_found_with_recall_and_precision_of_95_percent(jsonl: Write) -> None:
    rng = random.Random(8)
    training, validation = corpus(rng, 800), corpus(rng, 200)
    leaked = [*rng.sample(range(800), 60)]
    validation[:30] = [training[row] for row in leaked[:30]]
    validation[30:60] = [nearly(rng, training[row]) for row in leaked[30:]]
    report = inspect(jsonl(training), jsonl(validation, "validation.jsonl"), max_findings=1000)
    found = {finding.line - 1 for finding in report.findings if finding.code == "leaked_row"}
    recall, precision = scores(found, set(leaked))
    assert recall >= 0.95
    assert precision >= 0.95
    assert report.statistics["leakage"]["exact"] == 30
    assert report.statistics["validation_rows"] == 200


def test_a_leak_that_stands_twice_in_validation_is_found_twice(jsonl: Write) -> None:
    rng = random.Random(9)
    rows = corpus(rng, 30)
    again = nearly(rng, rows[3])
    report = inspect(jsonl(rows), jsonl([again, rows[5], again, *corpus(rng, 5)], "validation.jsonl"))
    assert report.statistics["leakage"] == {"exact": 1, "near": 2}


@given(st.lists(st.text("ab c", min_size=0, max_size=12), min_size=1, max_size=12))
def test_repeats_are_exactly_the_pairs_that_a_plain_search_finds(texts: list[str]) -> None:
    rows = [{"text": text, "label": "x"} for text in texts]
    repeated = {repeat.row for repeat in find_repeats(rows)}
    pieces = [shingles(row_text(row)) for row in rows]
    plain = {
        later
        for earlier, later in itertools.combinations(range(len(rows)), 2)
        if similarity(pieces[earlier], pieces[later]) >= 0.8 or exact_key(rows[earlier]) == exact_key(rows[later])
    }
    assert repeated <= plain
    for row in plain - repeated:
        # MinHash may miss what lies just at the threshold, never what is equal.
        assert max(similarity(pieces[row], pieces[earlier]) for earlier in range(row)) < 0.95


def test_similarity_is_jaccards_of_the_folded_five_byte_pieces() -> None:
    def pieces(text: str) -> set[str]:
        return {text[start : start + 5] for start in range(len(text) - 4)}

    left, right = "the quick brown fox", "the quick brown ox"
    wanted = len(pieces(left) & pieces(right)) / len(pieces(left) | pieces(right))
    assert similarity(shingles("The  quick\nBROWN fox "), shingles(right)) == pytest.approx(wanted)
    assert similarity(shingles(""), shingles(" ")) == 1.0


def test_exact_key_ignores_form_and_other_keys_but_no_content() -> None:
    row = talk("How  are\nyou?", "Fine.")
    same = {
        "id": 7,
        "messages": [{"content": "How are you?", "role": "user"}, {"content": "Fine.", "role": "assistant"}],
    }
    assert exact_key(row) == exact_key(same)
    assert exact_key(row) != exact_key(talk("How are you?", "Fine!"))
    assert exact_key(row) != exact_key({**row, "tools": [{"type": "function"}]})
    assert exact_key(talk("Cafe\u0301", "x")) == exact_key(talk("Caf\u00e9", "x"))


def test_split_by_groups_leaks_nothing(jsonl: Write) -> None:
    rng = random.Random(10)
    rows = corpus(rng, 300)
    rows += [nearly(rng, rng.choice(rows)) for _ in range(60)]
    made = split(rows, fraction=0.2, seed=3, groups=groups(rows))
    sides = [[rows[row] for row in side] for side in (made.train, made.validation)]
    report = inspect(jsonl(sides[0]), jsonl(sides[1], "validation.jsonl"))
    assert report.statistics["leakage"] == {"exact": 0, "near": 0}


def test_rare_and_unknown_labels_are_named(jsonl: Write) -> None:
    rng = random.Random(11)
    rows = [{"text": words(rng, 9), "label": label} for label in ["a"] * 120 + ["b"] * 110 + ["c"] * 2]
    validation = [{"text": words(rng, 9), "label": "d"}, {"text": words(rng, 9), "label": "a"}]
    report = inspect(jsonl(rows), jsonl(validation, "validation.jsonl"))
    assert {finding.code for finding in report.findings} == {"unbalanced_labels", "rare_label", "unknown_label"}
    assert report.statistics["labels"]["number"] == 3
    assert report.statistics["labels"]["most"] == {"a": 120, "b": 110, "c": 2}
    assert 0.5 < report.statistics["labels"]["evenness"] < 0.7


def test_short_answers_count_as_labels_and_long_ones_do_not(jsonl: Write) -> None:
    rng = random.Random(12)
    intents = inspect(jsonl([talk(words(rng, 9), ["card_lost", "top_up"][number % 2]) for number in range(60)]))
    assert intents.statistics["labels"]["number"] == 2
    assert intents.findings == ()
    assert inspect(jsonl(corpus(rng, 60))).statistics["labels"] == {}


def test_refusals_are_found_and_helpful_answers_are_not(jsonl: Write) -> None:
    refusing = [
        "I'm sorry, but I can't help with that.", "I cannot assist with this request.", "As an AI language model, I",
        "Maaf, saya tidak bisa membantu.", "Unfortunately, I am unable to do so.", "I’m sorry, but as an AI I",
        "I apologize, but I cannot answer.",
    ]  # fmt: skip
    helpful = [
        "I can help with that.", "Sorry to hear that! Let us see.", "You can't do it in the app; go to a branch.",
        "I am sorry for the delay. Your card is on its way.", "Maaf atas keterlambatannya.", "An AI is a program.",
    ]  # fmt: skip
    rng = random.Random(13)
    rows = [talk(words(rng, 9), answer) for answer in refusing + helpful]
    report = inspect(jsonl(rows))
    assert {finding.line for finding in report.findings if finding.code == "refusal"} == set(
        range(1, len(refusing) + 1)
    )


def test_odd_characters_are_named_by_kind_and_foreign_scripts_are_not(jsonl: Write) -> None:
    odd = {
        "cafÃ© today": "broken_encoding", "it\u2019s â€™ here": "broken_encoding", "lost \ufffd one": "broken_encoding",
        "bell \x07 rings": "control_character", "zero\u200bwidth": "invisible_character",
        "left \u202e right": "text_direction_override", "mine \ue123": "private_use_character",
        "Fish &amp; chips": "html_remnant", "line\u2028end": "unusual_white_space", "cafe\u0301": "not_normalised",
    }  # fmt: skip
    fine = [
        "Grüße, Ågot & Café °C",
        "👩‍👩‍👧 می‌خواهم हिन्दी",
        "a < b && c > d",
        "東京　です",
        "tab\there",
        "Straße – “quoted” …",
        "São João 5€",
    ]
    rows = [talk(f"{text} {number}", "Yes.") for number, text in enumerate([*odd, *fine])]
    report = inspect(jsonl(rows))
    found = {finding.line: finding.message for finding in report.findings if finding.code == "odd_characters"}
    assert set(found) == set(range(1, len(odd) + 1))
    for line, kind in enumerate(odd.values(), 1):
        assert found[line].startswith(kind.replace("_", " "))


def test_languages_are_told_and_the_odd_one_out_is_named(jsonl: Write) -> None:
    english = [
        talk(f"Where is my new card number {number}, please?", "It has been sent to your address.")
        for number in range(40)
    ]
    german = talk("Wo ist denn meine neue Karte geblieben, bitte?", "Sie wurde an Ihre Adresse geschickt.")
    report = inspect(jsonl([*english, german]))
    assert next(iter(report.statistics["languages"])) == "en"
    assert [finding.line for finding in report.findings if finding.code == "other_language"] == [41]


def test_what_is_secret_is_placed_but_never_repeated(jsonl: Write) -> None:
    key = "AKIAIOSFODNN7EXAMPLE"
    report = inspect(jsonl([talk(f"My key is {key}, my mail ann@mail.de", "Noted.")]))
    assert {finding.code for finding in report.findings} >= {"secret", "personal_data"}
    assert report.statistics["sensitive"] == {"aws_key": 1, "email": 1}
    assert key not in str(report.to_json())


def test_conflicting_answers_and_length_outliers_are_named(jsonl: Write) -> None:
    rng = random.Random(14)
    rows = corpus(rng, 50)
    rows.append(talk(rows[4]["messages"][0]["content"], words(rng, 30)))
    rows.append(talk(words(rng, 10), words(rng, 4000)))
    report = inspect(jsonl(rows))
    lines = {finding.code: finding.line for finding in report.findings}
    assert lines["conflicting_answers"] == 51
    assert lines["length_outlier"] == 52


def test_one_row_and_rows_of_every_format_give_a_report(jsonl: Write) -> None:
    assert inspect(jsonl([talk("How?", "So.")])).rows == 1
    pair = {
        "input": {"messages": [{"role": "user", "content": "How?"}]},
        "preferred_output": [{"role": "assistant", "content": "Gladly."}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    for row in (pair, {"prompt": "a", "completion": "b"}, {"text": "a", "labels": ["x"]}, {"text": "a", "target": 1}):
        assert inspect(jsonl([row])).ok


def test_rows_are_read_again_by_position_over_several_files(jsonl: Write, tmp_path: Path) -> None:
    first, second = corpus(random.Random(15), 7), corpus(random.Random(16), 5)
    path = jsonl(first)
    path.write_bytes(b"\xef\xbb\xbf\r\n" + path.read_bytes().replace(b"\n", b"\r\n\n"))
    both = Corpus(path, jsonl(second, "second.jsonl"))
    assert [both[position] for position in range(len(both))] == first + second == list(both)
    assert [both.file_of(position) for position in range(len(both))] == [0] * 7 + [1] * 5
    assert [both.line(position) for position in range(7)] == list(range(2, 16, 2))
    assert both.line(7) == 1


def test_many_equal_rows_take_linear_time() -> None:
    rows = [{"text": "all the same text here", "label": "x", "id": number} for number in range(5000)]
    repeats = find_repeats(rows)
    assert len(repeats) == 4999
    assert np.unique([repeat.of for repeat in repeats]).tolist() == [0]
