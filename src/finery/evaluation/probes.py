"""General questions with short answers, to see what a model forgot while it learned. Knows no models.

The questions are our own, in `general_questions.json`; an answer is right where the expected words stand in it.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from finery.evaluation import matches

MAX_ANSWER_TOKENS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A general question and the spellings of its answer."""

    text: str
    answers: tuple[str, ...]

    def is_right(self, answer: str) -> bool:
        """Whether one of the expected answers stands in what was said."""
        return any(matches.contains(answer, expected) for expected in self.answers)


@functools.cache
def general_questions() -> tuple[Question, ...]:
    """All of them, always in the same order."""
    path = Path(__file__).with_name("general_questions.json")
    return tuple(
        Question(text=text, answers=tuple(answers))
        for text, answers in json.loads(path.read_text(encoding="utf-8")).items()
    )
