"""An uploaded file and its states. Knows neither bytes nor where they lie."""

from dataclasses import dataclass
from enum import StrEnum

CHECKED_PURPOSES = frozenset({"fine-tune", "evals", "batch"})
"""Purposes whose files are JSONL and are checked line by line."""

PURPOSES = CHECKED_PURPOSES | {"assistants", "vision", "user_data"}
"""What a caller may upload; results are written by Finery itself."""

MAX_FILE_BYTES = 512 * 1024 * 1024

MIN_KEEP_SECONDS = 3600
MAX_KEEP_SECONDS = 30 * 24 * 3600
"""OpenAI's range for `expires_after`."""


class FileStatus(StrEnum):
    """uploaded (being checked) → processed | error."""

    UPLOADED = "uploaded"
    PROCESSED = "processed"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file of a project; its bytes are the blob `sha256`."""

    id: str
    project_id: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    status: FileStatus
    status_details: str | None = None
    rows: int | None = None
    """Rows of data, once checked."""
    format: str | None = None
    """What the rows are: chat, completion, preference, classification …"""
    created_at: int
    expires_at: int | None = None
