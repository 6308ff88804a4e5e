"""`spans.jsonl`: how long parts of a run took, one line a part. Nothing is sent: the trainer opens no connection.

Written only where the process was started with a TRACEPARENT; whoever started it reads and passes the lines on.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPANS_FILE = "spans.jsonl"
TRACE_VARIABLE = "TRACEPARENT"


class Spans:
    """Appends to the span file of one run folder."""

    def __init__(self, run_folder: Path, *, writes: bool = True) -> None:
        """`writes` is false in the ranks that leave the talking to rank 0."""
        self._path = run_folder / SPANS_FILE if writes and os.environ.get(TRACE_VARIABLE) else None

    @contextmanager
    def measure(self, name: str, **facts: Any) -> Iterator[None]:
        """The block is a part of the run."""
        start = time.time_ns()
        try:
            yield
        finally:
            if self._path is not None:
                span = {"name": name, "span_id": secrets.token_hex(8), "start": start, "end": time.time_ns()}
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(span | {"facts": facts}) + "\n")
