"""One attempt at a run: put the parts of this package together, train, write the result. Knows no process or signal."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from finery.modeling.template import ChatTemplate
from finery.training import objectives, ranks
from finery.training.checkpoint import Checkpoints, Progress, Saved, spec_hash, start_from
from finery.training.events import EventLog
from finery.training.loop import Loop, Parts
from finery.training.model import TrainableModel
from finery.training.optimizers import Optimizer
from finery.training.references import Stopped, add_references
from finery.training.reinforcement import ReinforcementLoop
from finery.training.results import ResultRow
from finery.training.rollouts import Explorer
from finery.training.spec import RunSpec
from finery.training.tasks import Item, read_items, read_prompts


def run_session(folder: Path, spec: RunSpec, events: EventLog, should_stop: Callable[[], bool]) -> bool:
    """Train from the newest checkpoint in `folder`, or from the start; whether the end was reached.

    Paths in `spec` may be relative to `folder`. False means that `should_stop` said so; the steps done are then in a
    checkpoint. Raises FineryError.
    """
    spec = _with_absolute_paths(spec, folder)
    checkpoints = Checkpoints(folder, spec)
    saved = checkpoints.newest(
        lambda bad, why: events.message(
            f"skipped:{bad.name}:{events.attempt}", f"Checkpoint {bad.name} is passed over: {why}", level="warn"
        )
    )
    progress = saved.progress if saved else Progress()
    progress.threads = _set_up_torch(spec.threads or progress.threads)
    try:
        with events.spans.measure("load"):
            parts = _prepare(folder, spec, events, checkpoints, should_stop)
            if saved:
                saved.restore(parts.model, parts.optimizer)
    except Stopped:
        return False
    if saved:
        _tell_resumed(saved, events)
    if should_stop():
        return False
    loop = _loop(parts, progress, saved.rows if saved else [])
    with events.spans.measure("train", from_step=progress.step):
        ended = loop.train(should_stop)
    if not ended:
        events.message(f"stopped:{progress.step}:{events.attempt}", f"Stopped after step {progress.step}")
        events.sync()
        return False
    if parts.ranks.writes:
        _finish(loop, parts)
    parts.ranks.leave()
    return True


def _loop(parts: Parts, progress: Progress, rows: list[ResultRow]) -> Loop:
    if not isinstance(parts.objective, objectives.Policy):
        return Loop(parts, progress, rows)
    template = ChatTemplate.load(Path(parts.spec.model_folder))
    return ReinforcementLoop(parts, progress, rows, Explorer(parts.spec, parts.model, parts.objective, template))


def _with_absolute_paths(spec: RunSpec, folder: Path) -> RunSpec:
    return replace(
        spec,
        model_folder=str(folder / spec.model_folder),
        training_file=str(folder / spec.training_file),
        validation_file=str(folder / spec.validation_file) if spec.validation_file else None,
        start_from=str(folder / spec.start_from) if spec.start_from else None,
    )


def _set_up_torch(threads: int) -> int:
    """Fix what decides the order of sums; returns the number of CPU threads."""
    torch.set_num_threads(threads or max(1, torch.get_num_threads() // ranks.count()))
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.get_num_threads()


def _tell_resumed(saved: Saved, events: EventLog) -> None:
    step, attempt = saved.progress.step, events.attempt
    events.message(f"resumed:{step}:{attempt}", f"Going on from the checkpoint of step {step}")
    if saved.torch_version != torch.__version__:
        events.message(
            f"torch:{attempt}",
            f"The checkpoint was made with torch {saved.torch_version}, this is {torch.__version__}: "
            "the result may differ in its last bits from that of an undisturbed run.",
            level="warn",
        )


def _tell_data(training: Sequence[Item], validation: Sequence[Item], events: EventLog) -> None:
    trained = sum(item.num_trained for item in training)
    text = f"{len(training):,} training examples, {sum(item.num_tokens for item in training):,} tokens"
    if trained:
        text += f", {trained:,} of them trained on"
    if validation:
        text += f"; {len(validation):,} validation examples"
    events.message("data", text)


def _prepare(
    folder: Path, spec: RunSpec, events: EventLog, checkpoints: Checkpoints, should_stop: Callable[[], bool]
) -> Parts:
    read = read_prompts if spec.objective == "reinforcement" else read_items
    training: Sequence[Item] = read(Path(spec.training_file), spec)
    validation: Sequence[Item] = read(Path(spec.validation_file), spec) if spec.validation_file else []
    _tell_data(training, validation, events)
    device = ranks.local_device()
    together = ranks.join(device)
    if together.count > 1:
        events.message("ranks", f"{together.count} processes train as one")
    model = TrainableModel.load(spec, device)
    objective = objectives.build(spec, model)
    start_from(model, spec)
    if isinstance(objective, objectives.Preferences):
        events.message("reference", "Asking the untrained model about every pair, as the reference…")
        training, validation = add_references(
            folder,
            spec_hash(spec),
            model,
            objective,
            [training, validation],
            tokens_per_pass=spec.tokens_per_pass,
            should_stop=should_stop,
        )
    return Parts(
        spec=spec,
        model=model,
        objective=objective,
        optimizer=Optimizer(spec.optimizer, model.trainable),
        training=training,
        validation=validation,
        events=events,
        checkpoints=checkpoints,
        ranks=together,
    )


def _finish(loop: Loop, parts: Parts) -> None:
    progress = loop.progress
    if progress.stopped_early:
        assert progress.best_measure is not None
        what = "validation reward" if parts.spec.objective == "reinforcement" else "full validation loss"
        parts.events.message(
            "stopped_early",
            f"Stopped early: no better {what} than {progress.best_measure:.4f} of step {progress.best_step} in "
            f"{progress.evaluations_without_better} evaluations",
        )
    step = loop.use_best()
    with parts.events.spans.measure("write result"):
        result = parts.checkpoints.write_result(parts.model, progress, loop.rows, step=step)
    row = next((row for row in loop.rows if row.step == step), loop.rows[-1])
    parts.events.result(
        f"Done: {progress.step} steps, {progress.trained_tokens:,} tokens",
        {
            "folder": result.name,
            "trained_tokens": progress.trained_tokens,
            "steps": progress.step,
            "weights_of_step": step,
            "metrics": row.measured(),
        },
    )
