"""What the reference model gives the documents of preferences: computed once before the first step, then kept on disk.

The reference is the model as the run finds it (the base, or what `start_from` names), so that no second copy of it is
needed. It does not know losses or steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from finery.modeling.manifests import write_file
from finery.training.model import TrainableModel
from finery.training.objectives import Preferences
from finery.training.tasks import Item


class Stopped(Exception):
    """The run was asked to stop before its first step."""


REFERENCE_FILE = "reference.safetensors"


def add_references(
    run_folder: Path,
    spec_hash: str,
    model: TrainableModel,
    objective: Preferences,
    sets: Sequence[Sequence[Item]],
    *,
    tokens_per_pass: int,
    should_stop: Callable[[], bool],
) -> list[list[Item]]:
    """The sets of items with references; `model` must be untrained, unless an earlier attempt left its file.

    Raises Stopped as soon as `should_stop` says so; nothing is kept then.
    """
    path = run_folder / REFERENCE_FILE
    known = _read(path, spec_hash)
    if known is not None:
        return [
            [replace(item, reference=tuple(pair)) for item, pair in zip(items, known[str(index)], strict=True)]
            for index, items in enumerate(sets)
        ]

    def stop_if_asked() -> None:
        if should_stop():
            raise Stopped

    model.train(False)
    done = [
        objective.with_reference(items, tokens_per_pass=tokens_per_pass, before_pass=stop_if_asked) for items in sets
    ]
    model.train(True)
    tensors = {
        str(index): torch.tensor([item.reference for item in items]).view(-1, 2) for index, items in enumerate(done)
    }
    write_file(path, save(tensors, metadata={"spec": spec_hash}))
    return done


def _read(path: Path, spec_hash: str) -> dict[str, list[list[float]]] | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("spec") != spec_hash:
                return None
            return {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError:
        return None
