"""Banking77, which tests of real training learn from: what customers of a bank ask, and which of 77 intents it is."""

import csv
import os
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("FINERY_DATA_DIR", ROOT.parent / "shared" / "data")) / "banking77"
MODELS = Path(os.environ.get("FINERY_MODELS", ROOT / ".cache" / "models"))
STARTER = "smollm2-135m-instruct"
SYSTEM = "Reply with the intent only"

Rows = list[tuple[str, str]]

needs_all = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no Banking77 at {DATA} (FINERY_DATA_DIR)"),
    pytest.mark.skipif(not (MODELS / STARTER).is_dir(), reason=f"no starter model in {MODELS} (FINERY_MODELS)"),
]


def read(name: str, intents: int) -> Rows:
    """Text and intent of the rows of the first so many intents."""
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        rows = [(row["text"].strip(), row["category"]) for row in csv.DictReader(file)]
    wanted = set(sorted({intent for _, intent in rows})[:intents])
    return [row for row in rows if row[1] in wanted]


def balanced(rows: Rows, each: int) -> Rows:
    """So many rows of every intent, mixed; the same ones every time."""
    mixed = random.Random(0).sample(rows, len(rows))
    places = {intent: [row for row in mixed if row[1] == intent][:each] for intent in sorted({i for _, i in rows})}
    return [row for row in mixed if row in places[row[1]]]


def messages(text: str) -> list[dict[str, str]]:
    """What a model is asked."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
