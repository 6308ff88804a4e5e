"""The loop of reinforcement: its steps draw their own examples. It does not know how answers are drawn or graded.

One optimizer step follows each exploration, as in DeepSeekMath: what is learned from was drawn from these very weights.
Answers depend on weights, seed and step number alone, so a run that was killed draws the same ones again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finery.evaluation import graders
from finery.training import batches, estimate
from finery.training.checkpoint import Progress
from finery.training.loop import Learned, Loop, OutOfMemory, Parts
from finery.training.policy import drawn_divergence
from finery.training.results import ResultRow
from finery.training.rollouts import Explorer, Rollouts
from finery.training.tasks import Item, Prompt

Json = Mapping[str, Any]


class ReinforcementLoop(Loop):
    """One run of reinforcement."""

    def __init__(self, parts: Parts, progress: Progress, rows: list[ResultRow], explorer: Explorer) -> None:
        super().__init__(parts, progress, rows)
        assert parts.spec.reinforcement is not None
        self._explorer = explorer
        self._grader = parts.spec.reinforcement.grader

    def _learn(self, items: list[Item], number: int) -> Learned:
        mine = self._explore(_prompts(self._my_share(items)), number)
        totals = self._totals(mine)
        # An answer no better or worse than its group teaches nothing but to stay near the base, where that is wanted.
        taught = [attempt for attempt in mine.attempts if attempt.advantage or attempt.reference]
        passes = batches.passes(taught, tokens_per_pass=self._spec.tokens_per_pass)
        measured = self._accumulate([list[Item](one_pass) for one_pass in passes], totals["tokens"])
        row = ResultRow(
            step=number,
            train_loss=measured.loss,
            train_reward_mean=totals["reward"] / totals["answers"],
            completion_tokens_mean=totals["tokens"] / totals["answers"],
            kl_mean=totals["kl"] / totals["tokens"] if any(attempt.reference for attempt in mine.attempts) else None,
        )
        self._warn(mine)
        told = {
            # OpenAI says it twice.
            "train_mean_reward": row.train_reward_mean,
            "scores": self._scores(totals, "train"),
            "errors": self._errors(totals, "train"),
            "cut_share": totals["cut"] / totals["answers"],
            "taught_share": totals["taught"] / totals["answers"],
            "timing": {"step": {"sampling": mine.sampling_seconds, "grading": mine.grading_seconds}},
        }
        return Learned(row=row, tokens=round(totals["read"]), told=told)

    def _validate(self, done: Learned, *, epoch_end: bool) -> Learned:
        interval, validation = self._spec.eval_interval_steps, self._parts.validation
        due = epoch_end or (interval and done.row.step % interval == 0)
        if not validation or not due:
            return done
        self._parts.model.train(False)
        found = self._explorer.measure(_prompts(self._my_share(validation)))
        self._parts.model.train(True)
        totals = self._totals(found)
        reward = totals["reward"] / totals["answers"]
        if epoch_end:
            self._watch(reward, reward > self._best(-math.inf))
        told = {**done.told, "full_valid_mean_reward": reward}
        told["scores"] = _merged(told["scores"], self._scores(totals, "valid"))
        told["errors"] = _merged(told["errors"], self._errors(totals, "valid"))
        return replace(done, row=replace(done.row, valid_reward_mean=reward), told=told)

    def _seconds_left(self, seconds: float, tokens: int) -> float:
        return seconds * (self.total_steps - self.progress.step)

    def _my_share(self, items: Sequence[Item]) -> list[Item]:
        ranks = self._parts.ranks
        return batches.shares(items, ranks.count)[ranks.number]

    def _explore(self, prompts: list[Prompt], number: int) -> Rollouts:
        self._parts.model.train(False)
        try:
            return self._explorer.explore(prompts, number)
        except (RuntimeError, MemoryError) as error:
            if not estimate.is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"The answers to {len(prompts)} prompts do not fit into memory while they are drawn. Set "
                f"tokens_per_pass below {self._spec.tokens_per_pass}, or max_completion_tokens lower."
            ) from error
        finally:
            self._parts.model.train(True)

    def _totals(self, found: Rollouts) -> dict[str, float]:
        """Sums over the answers of all ranks; those of graders inside a multi grader by their names."""
        sums = {
            "answers": float(len(found.attempts)),
            "reward": sum(grade.score for grade in found.grades),
            "tokens": sum(attempt.weight for attempt in found.attempts),
            "read": float(sum(attempt.num_tokens for attempt in found.attempts)),
            "cut": float(found.cut),
            "taught": float(sum(attempt.advantage != 0 for attempt in found.attempts)),
            "kl": sum(drawn_divergence(attempt.sampled, attempt.reference) for attempt in found.attempts),
            **{f"part:{name}": sum(grade.parts.get(name, 0.0) for grade in found.grades) for name in self._inside()},
            **{f"error:{kind}": float(sum(kind in grade.errors for grade in found.grades)) for kind in graders.ERRORS},
        }
        return dict(zip(sums, self._parts.ranks.totals(list(sums.values())), strict=True))

    def _inside(self) -> dict[str, Json]:
        return graders.inner(self._grader) if self._grader["type"] == "multi" else {}

    def _scores(self, totals: Mapping[str, float], side: str) -> dict[str, Any]:
        """Mean rewards, in the shape in which OpenAI's events have them."""
        inside = [
            {"name": name, "type": part["type"], f"{side}_reward_mean": totals[f"part:{name}"] / totals["answers"]}
            for name, part in self._inside().items()
        ]
        mean = totals["reward"] / totals["answers"]
        whole = {"name": self._grader["name"], "type": self._grader["type"], f"{side}_reward_mean": mean}
        return {"graders": inside or [whole], f"{side}_reward_mean": mean}

    def _errors(self, totals: Mapping[str, float], side: str) -> dict[str, Any]:
        """Answers that could not be graded, in the shape in which OpenAI's events have them; kinds that there were."""
        told: dict[str, Any] = {"name": self._grader["name"], "type": self._grader["type"]}
        for kind in graders.ERRORS:
            if count := totals[f"error:{kind}"]:
                told |= {f"{side}_{kind}_count": count, f"{side}_{kind}_mean": count / totals["answers"]}
        return {"graders": [told]}

    def _warn(self, found: Rollouts) -> None:
        """Once for each kind of fault in grading."""
        for kind, details in found.faults.items():
            text = f"The grader could not grade some answers ({kind}), which count as 0. One of them: {details}"
            self._parts.events.message(f"grader:{kind}", text[:1000], level="warn")


def _prompts(items: Sequence[Item]) -> list[Prompt]:
    prompts = [item for item in items if isinstance(item, Prompt)]
    assert len(prompts) == len(items)
    return prompts


def _merged(trained: Json, validated: Json) -> dict[str, Any]:
    """Figures of both sides, grader by grader."""
    both = [{**one, **other} for one, other in zip(trained["graders"], validated["graders"], strict=True)]
    return {**trained, **validated, "graders": both}
