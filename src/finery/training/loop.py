"""Steps, validation, early stopping. It does not know how a loss is made, a state is kept or a line is written.

A step is a function of weights, optimizer state, seed and its number. Its examples are packed into passes; the
gradients of the passes add up to those of the mean loss of the whole step, each token (or example) by its weight.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from finery.core.errors import FineryError
from finery.training import batches, estimate, head_reports
from finery.training.checkpoint import Checkpoints, Progress, read_weights
from finery.training.events import EventLog
from finery.training.model import TrainableModel
from finery.training.objectives import Objective
from finery.training.optimizers import Optimizer
from finery.training.packing import packed_tokens
from finery.training.ranks import Ranks
from finery.training.results import ResultRow
from finery.training.schedules import learning_rate
from finery.training.spec import RunSpec
from finery.training.tasks import Item


class LossNotFinite(FineryError):
    """A loss or a gradient became NaN or infinite; going on would ruin the weights."""

    code = "loss_not_finite"


class OutOfMemory(FineryError):
    """The largest pass does not fit into the memory there is."""

    code = "out_of_memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a loop works with."""

    spec: RunSpec
    model: TrainableModel
    objective: Objective
    optimizer: Optimizer
    training: Sequence[Item]
    validation: Sequence[Item]
    events: EventLog
    checkpoints: Checkpoints
    ranks: Ranks


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Loss and accuracy over some items."""

    loss: float
    accuracy: float | None
    head: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of a head: `head_reports.report`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What the forward and backward passes of a step came to."""

    row: ResultRow
    tokens: int
    told: dict[str, Any] = field(default_factory=dict)
    """What the step's event says besides the row."""


class Loop:
    """One run, from where `progress` is to its end."""

    def __init__(self, parts: Parts, progress: Progress, rows: list[ResultRow]) -> None:
        self._parts = parts
        self._spec = parts.spec
        self.progress = progress
        self.rows = rows
        steps_per_epoch = math.ceil(len(parts.training) / parts.spec.batch_size)
        self.total_steps = steps_per_epoch * parts.spec.n_epochs
        self._estimated = False

    def train(self, should_stop: Callable[[], bool]) -> bool:
        """Train to the end, or until `should_stop` says so after a step; whether the end was reached.

        Either way the last step done is in a checkpoint. Raises LossNotFinite and OutOfMemory.
        """
        progress = self.progress
        while progress.epoch < self._spec.n_epochs and not progress.stopped_early:
            plan = batches.steps(
                self._parts.training,
                batch_size=self._spec.batch_size,
                tokens_per_pass=self._spec.tokens_per_pass,
                seed=self._spec.seed,
                epoch=progress.epoch,
                row_tokens=self._row_tokens,
            )
            for places in plan[progress.cursor :]:
                epoch_end = progress.cursor + 1 == len(plan)
                self._one_step([self._parts.training[place] for place in places], epoch_end=epoch_end)
                stop = bool(self._parts.ranks.totals([should_stop()])[0])
                if epoch_end or stop or progress.step % self._spec.checkpoint_interval_steps == 0:
                    self._save(epoch_end=epoch_end, stop=stop)
                if stop:
                    return self._finished()
        return True

    def use_best(self) -> int:
        """With early stopping, load the weights of the best epoch; returns the step whose weights the model has."""
        progress = self.progress
        if not self._spec.early_stopping_patience or progress.best_step in (0, progress.step):
            return progress.step
        self._parts.model.load_state(read_weights(self._parts.checkpoints.folder(progress.best_step)))
        return progress.best_step

    def _row_tokens(self, items: list[Item]) -> int:
        documents = [document for item in items for document in item.documents]
        return packed_tokens(documents, share=self._parts.model.shares_beginnings)

    def _finished(self) -> bool:
        return self.progress.epoch == self._spec.n_epochs or self.progress.stopped_early

    def _one_step(self, items: list[Item], *, epoch_end: bool) -> None:
        progress, spec, parts = self.progress, self._spec, self._parts
        began = time.perf_counter()
        number = progress.step + 1
        rate = learning_rate(spec.optimizer, number, self.total_steps)
        if not self._estimated:
            estimate.reset_peak(parts.model.device)
        torch.manual_seed(step_seed(spec.seed, number, parts.ranks.number))
        done = self._learn(items, number)
        parts.ranks.add_up(parts.optimizer.gradients())
        norm = parts.optimizer.gradient_norm()
        loss = done.row.train_loss
        assert loss is not None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(number, rate, loss)
        parts.optimizer.step(number, rate, norm)
        seconds = time.perf_counter() - began
        progress.step = number
        progress.trained_tokens += done.tokens
        progress.cursor = 0 if epoch_end else progress.cursor + 1
        progress.epoch += epoch_end
        self._record(done, rate, done.tokens / seconds, epoch_end=epoch_end)
        if not self._estimated:
            self._estimated = True
            self._tell_estimate(self._seconds_left(seconds, done.tokens))

    def _learn(self, items: list[Item], number: int) -> Learned:
        """Forward and backward of step `number`; the gradients lie on the weights afterwards."""
        measured = self._accumulate(self._my_passes(items), sum(item.weight for item in items))
        row = ResultRow(
            step=number,
            train_loss=measured.loss,
            train_accuracy=measured.accuracy,
            train_mean_token_accuracy=measured.accuracy if self._by_token else None,
        )
        return Learned(row=row, tokens=sum(item.num_tokens for item in items))

    def _accumulate(self, passes: list[list[Item]], weight: float) -> Measured:
        """Forward and backward of passes whose items, over all ranks, have this weight together."""
        parts, spec = self._parts, self._spec
        whole = weight or 1.0
        sums = []
        for one_pass in passes:
            try:
                done = parts.objective.sums(one_pass)
                (done.loss_sum / whole).backward()  # type: ignore[no-untyped-call]
            except (RuntimeError, MemoryError) as error:
                raise _explained(error, one_pass, spec) from error
            sums.append((done.loss_sum.detach(), done.correct, done.counted))
        return self._measured(sums, whole)

    def _my_passes(self, items: Sequence[Item]) -> list[list[Item]]:
        """This rank's share of `items`, cut into passes."""
        ranks = self._parts.ranks
        return batches.passes(
            batches.shares(items, ranks.count)[ranks.number], tokens_per_pass=self._spec.tokens_per_pass
        )

    def _measured(self, sums: list[tuple[torch.Tensor, torch.Tensor, int]], weight: float) -> Measured:
        figures = [torch.stack([loss.double(), correct.double()]) for loss, correct, _ in sums]
        loss, correct = torch.stack(figures).sum(dim=0).tolist() if figures else (0.0, 0.0)
        loss, correct, total = self._parts.ranks.totals([loss, correct, sum(count for _, _, count in sums)])
        return Measured(loss=loss / weight, accuracy=correct / total if total else None)

    @torch.no_grad()
    def _evaluate(self, items: Sequence[Item]) -> Measured:
        parts = self._parts
        parts.model.train(False)
        done = [parts.objective.sums(one_pass) for one_pass in self._my_passes(items)]
        sums = [(part.loss_sum, part.correct, part.counted) for part in done]
        parts.model.train(True)
        measured = self._measured(sums, sum(item.weight for item in items) or 1.0)
        said = [part.said_DK for part in done]
        return replace(measured, head=head_reports.report(self._spec, said, items, parts.ranks))

    @property
    def _by_token(self) -> bool:
        return self._parts.objective.accuracy == "token"

    def _record(self, done: Learned, rate: float, speed: float, *, epoch_end: bool) -> None:
        """Validate if it is time, and put the step into rows and events."""
        done = self._validate(done, epoch_end=epoch_end)
        row = done.row
        self.rows.append(row)
        data = {
            **row.measured(),
            **done.told,
            "total_steps": self.total_steps,
            "epoch": math.ceil(row.step * self._spec.n_epochs / self.total_steps),
            "learning_rate": rate,
            "tokens_per_second": speed,
        }
        self._parts.events.metrics(_step_text(row, self.total_steps), data)

    def _validate(self, done: Learned, *, epoch_end: bool) -> Learned:
        """The same with what was measured on the validation set, if it is time."""
        spec, validation, row = self._spec, self._parts.validation, done.row
        told: dict[str, Any] = {}
        if validation and spec.eval_interval_steps and row.step % spec.eval_interval_steps == 0:
            start = (row.step // spec.eval_interval_steps - 1) * spec.batch_size % len(validation)
            some = self._evaluate(validation[start : start + spec.batch_size])
            told["valid_accuracy"] = some.accuracy
            accuracy = some.accuracy if self._by_token else None
            row = replace(row, valid_loss=some.loss, valid_mean_token_accuracy=accuracy)
        if validation and epoch_end:
            with self._parts.events.spans.measure("validate", step=row.step):
                full = self._evaluate(validation)
            told |= {"full_valid_accuracy": full.accuracy}
            told |= {f"full_valid_{name}": found for name, found in full.head.items()}
            accuracy = full.accuracy if self._by_token else None
            row = replace(row, full_valid_loss=full.loss, full_valid_mean_token_accuracy=accuracy)
            self._watch(full.loss, full.loss < self._best(math.inf))
        if self._by_token:
            return replace(done, row=row)
        return replace(done, row=row, told={name: value for name, value in told.items() if value is not None})

    def _best(self, worst: float) -> float:
        """The best measure so far; before there is one, what anything is better than."""
        return worst if self.progress.best_measure is None else self.progress.best_measure

    def _watch(self, measure: float, better: bool) -> None:
        """Remember the best epoch, and whether it is time to stop."""
        progress, patience = self.progress, self._spec.early_stopping_patience
        if better or progress.best_measure is None:
            progress.best_measure, progress.best_step = measure, progress.step
            progress.evaluations_without_better = 0
            return
        progress.evaluations_without_better += 1
        progress.stopped_early = 0 < patience <= progress.evaluations_without_better

    def _save(self, *, epoch_end: bool, stop: bool) -> None:
        parts, progress = self._parts, self.progress
        if parts.ranks.writes:
            with parts.events.spans.measure("save checkpoint", step=progress.step):
                parts.checkpoints.save(parts.model, parts.optimizer, progress, self.rows, epoch_end=epoch_end)
            data = {
                "step": progress.step,
                "folder": f"checkpoints/{parts.checkpoints.folder(progress.step).name}",
                "resumable": True,
                "deployable": epoch_end or stop,
                "metrics": self.rows[-1].measured(),
            }
            parts.events.checkpoint(f"Checkpoint of step {progress.step} saved", data)
        parts.ranks.wait()

    def _not_finite(self, step: int, rate: float, loss: float) -> LossNotFinite:
        what = "the gradient" if math.isfinite(loss) else "the loss"
        saved = self._parts.checkpoints.newest_step()
        kept = f"The checkpoint of step {saved} is kept." if saved else "There was no checkpoint yet."
        return LossNotFinite(
            f"At step {step} {what} was not a finite number, with the learning rate at {rate:.3g}. {kept} "
            "Start again with a learning_rate_multiplier ten times smaller."
        )

    def _seconds_left(self, seconds: float, tokens: int) -> float:
        """A guess from the first step."""
        left = sum(item.num_tokens for item in self._parts.training) * self._spec.n_epochs
        return seconds / tokens * (left - self.progress.trained_tokens)

    def _tell_estimate(self, seconds_left: float) -> None:
        measured = estimate.Estimate(peak_bytes=estimate.peak_bytes(self._parts.model.device), seconds=seconds_left)
        self._parts.events.message(
            "estimate",
            measured.text(),
            data={"peak_bytes": measured.peak_bytes, "estimated_seconds": measured.seconds},
        )


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of all random numbers that one rank draws in one step."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}:{rank}".encode()).digest()[:7], "big")


def _step_text(row: ResultRow, total_steps: int) -> str:
    parts = [f"training loss={row.train_loss:.2f}"]
    if row.train_reward_mean is not None:
        parts = [f"train mean reward={row.train_reward_mean:.2f}"]
    if row.valid_reward_mean is not None:
        parts.append(f"full validation mean reward={row.valid_reward_mean:.2f}")
    if row.valid_loss is not None:
        parts.append(f"validation loss={row.valid_loss:.2f}")
    if row.full_valid_loss is not None:
        parts.append(f"full validation loss={row.full_valid_loss:.2f}")
    return f"Step {row.step}/{total_steps}: {', '.join(parts)}"


def _explained(error: Exception, items: Sequence[Item], spec: RunSpec) -> Exception:
    if not estimate.is_out_of_memory(error):
        return error
    tokens, longest = sum(item.num_tokens for item in items), max(item.num_tokens for item in items)
    way_out = estimate.advice(pass_tokens=tokens, longest_tokens=longest, spec=spec)
    return OutOfMemory(f"A pass of {tokens} tokens does not fit into memory. {way_out}")
