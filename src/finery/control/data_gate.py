"""The gate before training: a job's rows are read by the content filter before the job is queued.

Every finding has its line, path and category, so that people can fix their data; they stand in the job's events. What a
row may hold at most is the operator's setting. Failed rows cost nothing. Knows no weights.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from finery.control.jobs import message
from finery.control.plane import ControlPlane
from finery.core.errors import InvalidRequest, Unavailable
from finery.core.files import File
from finery.core.jobs import Job
from finery.core.policies import CATEGORIES, LEVELS, Verdict
from finery.data.formats import item_fields
from finery.data.rows import iterate
from finery.data.texts import item_texts, texts
from finery.safety.classifier import MAX_CHARACTERS
from finery.safety.filter import FilterError
from finery.storage import jobs

log = logging.getLogger(__name__)

TEXTS_A_CALL = 8
"""Few: requests of people wait for the same filter in between."""
MAX_FINDINGS = 500
"""How many findings an event lists; all are counted."""
SHOWN_LINES = 5

HARM_TYPES = {"hate": "hate_fairness", "sexual": "sexual", "violence": "violence", "self_harm": "self_harm"}
"""Azure's words for the categories where it speaks of training data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Harm:
    """One text of a row, and what is in it."""

    file: str
    line: int
    path: str
    category: str
    severity: int


def screen(plane: ControlPlane, job: Job, given: Sequence[File]) -> None:
    """Read every text of a job's files.

    Raises:
        InvalidRequest: something is at or above the operator's threshold, naming lines and harm types.
        Unavailable: the filter failed; the job can be sent again.
    """
    threshold = plane.settings.training_data_threshold.lower()
    if threshold == "off":
        return
    border = 2 * LEVELS.index(threshold)
    try:
        found = [harm for file in given for harm in _harms(plane, file, border)]
    except FilterError as error:
        log.error("screening the data of %s: %s", job.id, error)
        raise Unavailable(
            "The training data could not be screened by the content filter; create the job again.",
            code="content_filter_error",
        ) from error
    if found:
        _tell(plane, job, found)
        raise InvalidRequest(_refusal(found), code="unsafe_training_data", param="training_file")


def _harms(plane: ControlPlane, file: File, border: int) -> Iterator[Harm]:
    known: dict[str, Verdict] = {}
    with plane.blobs.as_path(file.sha256) as path:
        places = ((line, place, text) for line, row in iterate(path) for place, text in _texts(file, row))
        while batch := list(islice(places, TEXTS_A_CALL)):
            # System messages are many rows' own: each text is read once.
            new = list({text: None for _, _, text in batch if text not in known})
            known |= zip(new, plane.filter.analyze([text[:MAX_CHARACTERS] for text in new]), strict=True)
            for line, place, text in batch:
                for category in CATEGORIES:
                    severity = known[text].severities[category]
                    if severity >= border:
                        yield Harm(file=file.id, line=line, path=place, category=category, severity=severity)
            if len(known) > _KNOWN_TEXTS:
                known.clear()


_KNOWN_TEXTS = 20_000


def _texts(file: File, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Whatever the model reads, or is rewarded for saying."""
    yield from texts(row)
    if file.format == "reinforcement":
        yield from item_texts(item_fields(row))


def _refusal(found: list[Harm]) -> str:
    kinds = ", ".join(HARM_TYPES[c] for c in CATEGORIES if any(harm.category == c for harm in found))
    lines = list(dict.fromkeys((harm.file, harm.line) for harm in found))
    named = "; ".join(f"{file} line {line}" for file, line in lines[:SHOWN_LINES])
    more = f" and {len(lines) - SHOWN_LINES} more" if len(lines) > SHOWN_LINES else ""
    return (
        f"The provided training data failed RAI checks for harm types: [{kinds}]. Please fix the data and try again. "
        f"Rows: {named}{more}; the job's events list every finding."
    )


def _tell(plane: ControlPlane, job: Job, found: list[Harm]) -> None:
    listed: list[dict[str, Any]] = [
        {
            "file": harm.file,
            "line": harm.line,
            "path": harm.path,
            "category": harm.category,
            "severity": LEVELS[harm.severity // 2],
        }
        for harm in found[:MAX_FINDINGS]
    ]
    text = f"The content filter found {len(found)} harmful text(s) in the data"
    with plane.database.write() as connection:
        event = message("data-screened", text, level="error", data={"count": len(found), "findings": listed})
        jobs.insert_events(connection, job.id, [event])
