"""Completions through the gate: what is let go, and when. The classifier here knows one bad word at a known place."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from finery.control import gated
from finery.control.chat import Part
from finery.control.gated import ASYNCHRONOUS_CHARACTERS, Annotation
from finery.control.screening import Gate, Look
from finery.core.errors import Unavailable
from finery.core.policies import (
    BUILT_IN,
    DEFAULT,
    BlocklistUse,
    ContentFilter,
    Mode,
    OnFilterError,
    Policy,
    Source,
    Verdict,
)
from finery.safety.blocklists import Item, Matcher
from finery.safety.filter import FilterError
from finery.safety.overlaps import Runs, hashes
from finery.serving.protocol import Finish

BAD = "badword"
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "rests",
    "in",
    "warm",
    "grass",
    "until",
    "evening",
    "comes",
]


class OneWord:
    """Finds one word; fails from the call `fails_at` on."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.calls = 0
        self._fails_at = fails_at

    async def examine(self, texts: Sequence[str], scope: str) -> list[Verdict]:
        await asyncio.sleep(0)
        self.calls += 1
        if self.calls >= self._fails_at:
            raise FilterError("down")
        return [Verdict(severities={"violence": 6 if BAD in text else 0}) for text in texts]


def gate(policy: Policy = DEFAULT, classifier: OneWord | None = None, look: Look | None = None) -> Gate:
    plane: Any = SimpleNamespace(filter=classifier or OneWord())
    caller: Any = SimpleNamespace(project=SimpleNamespace(id="proj_1"))
    return Gate(plane=plane, caller=caller, policy=policy, prompt_results={}, look=look or Look())


def text(draw: random.Random, words: int, bad_at: int | None, bad: str = BAD) -> str:
    chosen = draw.choices(WORDS, k=words)
    if bad_at is not None:
        chosen.insert(bad_at, bad)
    return " ".join(chosen)


async def stream(draw: random.Random, whole: str) -> AsyncGenerator[Part | Finish, None]:
    place = 0
    while place < len(whole):
        size = draw.choice((1, 2, 3, 5, 9, 40))
        yield Part(text=whole[place : place + size])
        place += size
    yield Finish(reason="stop", prompt_tokens=7, completion_tokens=3)


def run(opened: Gate, draw: random.Random, whole: str) -> list[Part | Annotation | Finish]:
    async def collect() -> list[Part | Annotation | Finish]:
        return [item async for item in gated.through(opened, stream(draw, whole))]

    return asyncio.run(collect())


def said(items: list[Part | Annotation | Finish]) -> str:
    return "".join(item.text for item in items if isinstance(item, Part))


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_harmless_answer_arrives_whole_and_once(name: str) -> None:
    for seed in range(30):
        draw = random.Random(seed)
        whole = text(draw, draw.randrange(0, 400), None)
        items = run(gate(BUILT_IN[name]), draw, whole)
        assert said(items) == whole
        assert items[-1] == Finish(reason="stop", prompt_tokens=7, completion_tokens=3)
        if name != "off":
            assert isinstance(items[-2], Annotation)
            assert items[-2].results["violence"] == {"filtered": False, "severity": "safe"}
            assert items[-2].end_offset == len(whole)


def test_default_mode_lets_nothing_of_the_bad_go() -> None:
    for seed in range(300):
        draw = random.Random(seed)
        words = draw.randrange(1, 400)
        whole = text(draw, words, draw.randrange(words + 1))
        items = run(gate(), draw, whole)
        assert said(items) == whole[: len(said(items))]
        assert len(said(items)) < whole.index(BAD) + len(BAD)
        assert items[-1].reason == "content_filter"
        assert items[-2].results["violence"] == {"filtered": True, "severity": "high"}


class UnfinishedSentences(OneWord):
    """Takes "I want to kill" for harm unless it goes on with "time"."""

    async def examine(self, texts: Sequence[str], scope: str) -> list[Verdict]:
        self.calls += 1
        bad = ["kill" in text and "kill time" not in text for text in texts]
        return [Verdict(severities={"violence": 6 * found}) for found in bad]


def test_a_hit_in_an_unfinished_sentence_waits_for_its_end() -> None:
    start = "The train is late again. "
    for seed in range(50):
        draw = random.Random(seed)
        harmless = start + "I want to kill time until it comes. And then I go home."
        items = run(gate(classifier=UnfinishedSentences()), draw, harmless)
        assert said(items) == harmless
        assert items[-2].results["violence"] == {"filtered": False, "severity": "safe"}
        harmful = (
            start + "I want to kill the conductor" + " of this late train" * draw.randrange(60) + ". Then I go home."
        )
        items = run(gate(classifier=UnfinishedSentences()), draw, harmful)
        assert items[-1].reason == "content_filter"
        assert "kill" not in said(items)
        assert said(items) == harmful[: len(said(items))]


def test_the_first_words_come_before_the_answer_is_long() -> None:
    async def first() -> int:
        written = 0

        async def slow() -> AsyncGenerator[Part | Finish, None]:
            nonlocal written
            for word in WORDS:
                written += len(word) + 1
                yield Part(text=f"{word} ")
            yield Finish(reason="stop", prompt_tokens=7, completion_tokens=3)

        async for item in gated.through(gate(), slow()):
            if isinstance(item, Part):
                return written
        return -1

    assert 0 < asyncio.run(first()) < 24


def test_asynchronous_mode_tells_within_its_characters() -> None:
    policy = BUILT_IN["default-asynchronous"]
    for seed in range(100):
        draw = random.Random(seed)
        words = draw.randrange(1, 900)
        whole = text(draw, words, draw.randrange(words + 1))
        items = run(gate(policy), draw, whole)
        assert items[-1].reason == "content_filter"
        assert len(said(items)) - whole.index(BAD) <= ASYNCHRONOUS_CHARACTERS
        offsets = [
            (item.check_offset, item.start_offset, item.end_offset) for item in items if isinstance(item, Annotation)
        ]
        assert offsets == sorted(offsets)
        assert all(start <= end for _, start, end in offsets)


def test_a_term_of_a_blocklist_never_goes_even_in_part() -> None:
    matcher = Matcher.of([Item(id="1", text="purple zebra parade")])
    policy = dataclasses.replace(DEFAULT, blocklists=(BlocklistUse(name="list", source=Source.COMPLETION),))
    for seed in range(100):
        draw = random.Random(seed)
        words = draw.randrange(1, 300)
        whole = text(draw, words, draw.randrange(words + 1), "purple zebra parade")
        items = run(gate(policy, look=Look(lists={"list": matcher})), draw, whole)
        assert items[-1].reason == "content_filter"
        assert "purple" not in said(items)


@pytest.mark.parametrize("mode", Mode)
def test_of_a_protected_work_no_run_is_let_go(mode: Mode) -> None:
    work = " ".join(random.Random(0).choices(["stately", "plump", "mirror", "razor", "yellow", "gown", "bowl"], k=40))
    runs = Runs.of(15, [hashes(work, 15)])
    wanted = ContentFilter(name="protected_material_text", source=Source.COMPLETION)
    policy = dataclasses.replace(Policy(name="works", mode=mode, content_filters=(wanted,)))
    look = Look(runs={"protected_material_text": runs})
    for seed in range(25):
        draw = random.Random(seed)
        words = draw.randrange(1, 400)
        whole = text(draw, words, draw.randrange(words + 1), work)
        items = run(gate(policy, look=look), draw, whole)
        assert items[-1].reason == "content_filter"
        assert items[-2].results["protected_material_text"] == {"filtered": True, "detected": True}
        if mode == Mode.DEFAULT:
            assert not runs.occur_in(said(items))
        else:
            assert len(said(items)) - whole.index(work) <= ASYNCHRONOUS_CHARACTERS
        harmless = text(draw, words, draw.randrange(words + 1), " ".join(work.split()[:14]))
        assert said(run(gate(policy, look=look), draw, harmless)) == harmless


def test_what_cant_be_looked_for_is_a_failure_of_the_filter() -> None:
    look = Look(failure=Unavailable("The rows are gone.", code="content_filter_error"))
    draw = random.Random(1)
    whole = text(draw, 100, None)
    with pytest.raises(Unavailable, match="rows are gone"):
        run(gate(look=look), draw, whole)
    lenient = dataclasses.replace(DEFAULT, on_filter_error=OnFilterError.ANNOTATE)
    items = run(gate(lenient, look=look), draw, whole)
    assert said(items) == whole
    assert items[-2].results["error"]["code"] == "content_filter_error"


def test_where_the_filter_fails_nothing_passes_unless_the_policy_lets_it() -> None:
    draw = random.Random(1)
    whole = text(draw, 200, None)
    with pytest.raises(Unavailable) as refused:
        run(gate(classifier=OneWord(fails_at=3)), draw, whole)
    assert refused.value.code == "content_filter_error"
    lenient = dataclasses.replace(DEFAULT, on_filter_error=OnFilterError.ANNOTATE)
    items = run(gate(lenient, OneWord(fails_at=1)), draw, whole)
    assert said(items) == whole
    assert items[-2].results["error"]["code"] == "content_filter_error"
