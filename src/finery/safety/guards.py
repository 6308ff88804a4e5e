"""Guard models: what each kind is asked, and what its answer means in our categories, by the table `guards.json`.

Each hazard stands for a severity; the guard's word (unsafe, controversial) caps it. Where that word says medium or more
the text counts as `guard` too, whatever the hazard: those that we have no category for are not lost. Knows no network,
no deployment and no policy.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from finery.core.policies import CATEGORIES, Verdict

MEDIUM = 4
SHOWN_CHARACTERS = 80


class UnreadableAnswer(ValueError):
    """A guard said something that its kind never says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question to a guard: a conversation for its chat template, or a plain prompt."""

    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    finds: Mapping[str, int] = field(default_factory=dict)
    """What a yes means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardKind:
    """One family of guard models."""

    max_tokens: int
    verdict: re.Pattern[str]
    verdicts: Mapping[str, int]
    """Word → highest severity."""
    hazard: re.Pattern[str] | None
    hazards: Mapping[str, Mapping[str, int]]
    prompt: str = ""
    completion: str = ""
    """Templates of plain prompts; empty where the guard is asked in conversations."""
    principles: tuple[tuple[str, Mapping[str, int]], ...] = ()
    marks: str = ""
    """What a text may not say in a plain prompt: it would end its own quotation."""

    def questions(self, prompt: str, completion: str | None) -> list[Question]:
        """What to ask about a prompt, or about a completion that answers it."""
        if not self.prompt:
            messages = [{"role": "user", "content": prompt}]
            if completion is not None:
                messages.append({"role": "assistant", "content": completion})
            return [Question(messages=messages)]
        template = self.prompt if completion is None else self.completion
        said = {"prompt": re.sub(self.marks, "", prompt), "completion": re.sub(self.marks, "", completion or "")}
        return [
            Question(prompt=_filled(template, said | {"principle": principle}), finds=finds)
            for principle, finds in self.principles
        ]

    def read(self, question: Question, answer: str) -> Verdict:
        """What an answer means.

        Raises:
            UnreadableAnswer: it isn't what this kind of guard says.
        """
        word = self.verdict.search(answer)
        if word is None:
            raise UnreadableAnswer(f"the guard answered {answer[:SHOWN_CHARACTERS]!r}")
        cap = self.verdicts[word[1].lower()]
        found = dict(question.finds)
        for hazard in self.hazard.findall(answer) if self.hazard and cap else ():
            found |= self.hazards.get(hazard, self.hazards.get(hazard.lower(), {}))
        found = {name: min(severity, cap) for name, severity in found.items()}
        detected = {name for name, severity in found.items() if name not in CATEGORIES and severity >= MEDIUM}
        return Verdict(
            severities={name: found.get(name, 0) for name in CATEGORIES},
            detected=frozenset(detected | ({"guard"} if cap >= MEDIUM else set())),
        )


def _filled(template: str, said: Mapping[str, str]) -> str:
    """In one go: what is filled in is not looked at again."""
    return re.sub(r"\{(\w+)\}", lambda place: said[place[1]], template)


def _kinds() -> dict[str, GuardKind]:
    table = json.loads((files("finery.safety") / "guards.json").read_text("utf-8"))
    return {
        name: GuardKind(
            max_tokens=row["max_tokens"],
            verdict=re.compile(row["verdict"], re.IGNORECASE),
            verdicts=row["verdicts"],
            hazard=re.compile(row["hazard"], re.IGNORECASE) if "hazard" in row else None,
            hazards=row.get("hazards", {}),
            prompt=row.get("prompt", ""),
            completion=row.get("completion", ""),
            principles=tuple((text, finds) for text, finds in row.get("principles", ())),
            marks=row.get("marks", ""),
        )
        for name, row in table.items()
    }


KINDS: Mapping[str, GuardKind] = _kinds()
