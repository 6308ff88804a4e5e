"""What an export's child process is told, and where in its folder things lie. It writes no export: `export` does."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finery.serving.config import write_json

ORDER_FILE = "order.json"
OUTCOME_FILE = "outcome.json"
FILES = "files"

Format = Literal["adapter", "merged", "gguf"]
Quantization = Literal["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"]
"""Of a GGUF file, by llama.cpp's names; f16 is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOrder:
    """All that the child is told."""

    model: str
    """Its name, for the card."""
    format: Format
    quantization: Quantization
    base_folder: str
    tuned_folder: str | None
    """An adapter in PEFT's format, or a whole model; None: the base itself is exported."""
    whole: bool
    """The tuned folder has all weights."""
    questions: list[dict[str, Any]]
    """To compare answers on (`parity.Question`)."""
    override: bool
    """Keep the export also where it answers differently; the certificate tells."""
    facts: dict[str, Any]
    """For the card: base, licence, source, job, …"""

    def write(self, folder: Path) -> None:
        """Write `order.json`, whole or not at all."""
        write_json(folder / ORDER_FILE, dataclasses.asdict(self))

    @staticmethod
    def read(folder: Path) -> "ExportOrder":
        """The inverse of `write`."""
        return ExportOrder(**json.loads((folder / ORDER_FILE).read_text(encoding="utf-8")))
