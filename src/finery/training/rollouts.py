"""Prompts → graded answers: drawn from the model in training, weighed against each other. It knows no loss.

A grader that can't say anything of an answer (a template that isn't there, code that raises) gives it the reward 0, as
OpenAI does, and what went wrong is told. Only a grader that can't be run at all ends the run.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from finery.core.errors import FineryError
from finery.evaluation import computed, graders
from finery.evaluation.graders import Grade
from finery.modeling.template import ChatTemplate, Example
from finery.training.model import TrainableModel
from finery.training.objectives import Policy
from finery.training.policy import advantages
from finery.training.sampling import Answer, Ask, Sampler
from finery.training.spec import ReinforcementSpec, RunSpec
from finery.training.tasks import Attempt, Prompt

_CACHE_PASSES = 4
"""Keys and values of so many passes' tokens are kept at once: a small part of what training keeps of a token."""


class GraderUnavailable(FineryError):
    """The grader could not be run, whatever the answer."""

    code = "grader_unavailable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollouts:
    """Answers to some prompts."""

    attempts: list[Attempt]
    grades: list[Grade]
    """One an attempt."""
    cut: int
    """Answers that did not come to an end."""
    sampling_seconds: float
    grading_seconds: float
    faults: dict[str, str] = field(default_factory=dict)
    """What went wrong in grading: one example of each kind."""


class Explorer:
    """Draws and grades."""

    def __init__(self, spec: RunSpec, model: TrainableModel, policy: Policy, template: ChatTemplate) -> None:
        assert spec.reinforcement is not None
        self._spec: ReinforcementSpec = spec.reinforcement
        self._seed = spec.seed
        self._tokens_per_pass = spec.tokens_per_pass
        self._policy = policy
        self._template = template
        self._sampler = Sampler(
            model,
            template.end_token_ids,
            max_tokens=self._spec.max_completion_tokens,
            cache_tokens=_CACHE_PASSES * spec.tokens_per_pass,
        )

    def explore(self, prompts: Sequence[Prompt], step: int) -> Rollouts:
        """A group of answers to each prompt of a step, with their advantages and what the base model says of them."""
        found = self._rollouts(prompts, self._spec.group_size, lambda prompt: f"train:{step}:{prompt.place}")
        if not self._spec.kl_weight:
            return found
        attempts = self._policy.with_reference(found.attempts, tokens_per_pass=self._tokens_per_pass)
        return replace(found, attempts=attempts)

    def measure(self, prompts: Sequence[Prompt]) -> Rollouts:
        """Answers to prompts of the validation set: drawn by the same numbers each time, so that steps compare."""
        return self._rollouts(prompts, self._spec.eval_samples, lambda prompt: f"valid:{prompt.place}")

    def _rollouts(self, prompts: Sequence[Prompt], copies: int, name: Callable[[Prompt], str]) -> Rollouts:
        began = time.perf_counter()
        asks = [
            Ask(
                prompt=prompt.documents[0].tokens,
                seeds=[_seed(f"{self._seed}:{name(prompt)}:{copy}") for copy in range(copies)],
            )
            for prompt in prompts
        ]
        answers = self._sampler.answers(asks)
        sampled = time.perf_counter()
        grades = self._grade(
            [(prompt.row, answer) for prompt, group in zip(prompts, answers, strict=True) for answer in group]
        )
        attempts: list[Attempt] = []
        for prompt, group in zip(prompts, answers, strict=True):
            scores = [grade.score for grade in grades[len(attempts) : len(attempts) + copies]]
            attempts += [
                _attempt(prompt, answer, advantage) for answer, advantage in zip(group, advantages(scores), strict=True)
            ]
        return Rollouts(
            attempts=attempts,
            grades=grades,
            cut=sum(not answer.ended for group in answers for answer in group),
            sampling_seconds=sampled - began,
            grading_seconds=time.perf_counter() - sampled,
            faults={kind: details for grade in grades for kind, details in grade.errors.items()},
        )

    def _grade(self, answers: Sequence[tuple[dict[str, Any], Answer]]) -> list[Grade]:
        """In order; the processes of python graders run beside each other."""
        texts = [self._template.decode(answer.tokens, skip_special=True) for _, answer in answers]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            grades = list(pool.map(self._grade_one, [row for row, _ in answers], texts))
        for grade in grades:
            if "python_grader_server_error" in grade.errors:
                raise GraderUnavailable(
                    f"The grader {grade.name!r} can't be run here: {grade.errors['python_grader_server_error']}."
                )
        return grades

    def _grade_one(self, row: dict[str, Any], text: str) -> Grade:
        return computed.grade(self._spec.grader, item=row, sample=graders.sample_of(text))


def _attempt(prompt: Prompt, answer: Answer, advantage: float) -> Attempt:
    before = prompt.documents[0].tokens
    return Attempt(
        documents=(
            Example(tokens=[*before, *answer.tokens], weights=[0.0] * len(before) + [1.0] * len(answer.tokens)),
        ),
        weight=float(len(answer.tokens)),
        advantage=advantage,
        sampled=tuple(answer.logprobs),
    )


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
