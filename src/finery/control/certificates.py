"""Whether a tuned model answers where it is served as it does in training: its files, its base's files, its answers.

The prompts are held out: validation rows of its job, training rows where there are none. The answers of the trainer's
model come from a child process with torch, one at a time on this machine; whether a failed certificate stops a
deployment is for `deployments` to decide.
"""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

from finery.control.inference import is_full
from finery.control.models import ResolvedModel
from finery.control.plane import ControlPlane
from finery.core.errors import CorruptArtifact, Unavailable
from finery.core.models import TunedModel
from finery.data.rows import iterate
from finery.modeling import manifests, sources
from finery.serving import parity
from finery.serving.parity import Certificate, Question, question_of
from finery.serving.remote import InferenceClient
from finery.storage import jobs

ANSWER_TOKENS = 24
"""Compared in each answer."""

_LONGEST_PROMPT_CHARACTERS = 8000
_LOOKED_AT_ROWS = 1000
_SECONDS = 300.0

_ANY_QUESTIONS: list[Question] = [
    {"messages": [{"role": "user", "content": text}]}
    for text in ("Hello", "What can you help me with?", "Write one sentence about iron.", "Name three colours.")
]
"""Where there is no job, or none of its rows are left."""


async def certify(
    plane: ControlPlane, model: ResolvedModel, client: InferenceClient, adapter: str | None
) -> Certificate | None:
    """The certificate of a tuned model as `client` serves it; None for a base model and where the operator wants none.

    Raises:
        CorruptArtifact: the model's files, or those of its base, aren't the ones of its training.
        Unavailable: the reference could not be asked.
    """
    if model.tuned is None or plane.settings.parity_prompts == 0:
        return None
    folder = await plane.inference.materialise(model.tuned)
    await asyncio.to_thread(_require_files, model, folder)
    questions = await asyncio.to_thread(held_out, plane, model.tuned, plane.settings.parity_prompts)
    full = is_full(model.tuned)
    async with plane.inference.reference:
        try:
            async with asyncio.timeout(_SECONDS):
                return await parity.certify(
                    client,
                    adapter=adapter,
                    model_folder=folder if full else model.base.folder,
                    adapter_folder=None if full else folder,
                    questions=questions,
                    max_tokens=ANSWER_TOKENS,
                )
        except TimeoutError:
            raise Unavailable(
                f"The reference for the parity certificate took longer than {_SECONDS:g} s. Try again when the machine "
                "is less busy, or set FINERY_PARITY_PROMPTS lower."
            ) from None


def held_out(plane: ControlPlane, tuned: TunedModel | None, count: int) -> list[Question]:
    """Up to `count` questions of the rows that a model was validated on, else of those it was trained on."""
    if tuned is None:
        return _ANY_QUESTIONS[:count]
    with plane.database.read() as connection:
        job = jobs.get(connection, tuned.project_id, tuned.job_id)
    for part in ("validation", "training"):
        found = _questions(plane, job.data.get(part) if job else None, count)
        if found:
            return found
    return _ANY_QUESTIONS[:count]


def _questions(plane: ControlPlane, part: dict[str, Any] | None, count: int) -> list[Question]:
    if part is None or not plane.blobs.has(part["sha256"]):
        return []
    with plane.blobs.as_path(part["sha256"]) as path:
        rows = itertools.islice(iterate(path), _LOOKED_AT_ROWS)
        asked = (question for _, row in rows if (question := question_of(row)))
        short = (question for question in asked if len(json.dumps(question)) <= _LONGEST_PROMPT_CHARACTERS)
        return list(itertools.islice(short, count))


def _require_files(model: ResolvedModel, folder: Path) -> None:
    """Every byte of the model and its base is what the training had."""
    assert model.tuned is not None
    for name, file in model.tuned.manifest["files"].items():
        path = folder / name
        if not path.is_file() or manifests.sha256_of(path) != file["sha256"]:
            raise CorruptArtifact(f"{name} of '{model.name}' is not what was trained: its SHA-256 differs.")
    if is_full(model.tuned):
        return
    sources.verify(model.base.folder)
    now = manifests.read_manifest(model.base.folder, name=sources.FACTS_FILE).files
    for name, sha256 in model.tuned.manifest.get("base_files", {}).items():
        if name not in now or now[name].sha256 != sha256:
            raise CorruptArtifact(
                f"{name} of the base model {model.base.id} is not the one that '{model.name}' was trained with. Bring "
                "that version of the base back, or tune the model anew."
            )
