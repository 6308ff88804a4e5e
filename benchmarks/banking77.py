"""All of Banking77 with a classification head: 10,003 rows, 77 intents, scored on the 3,080 test rows.

    python benchmarks/banking77.py --model FOLDER [--epochs 3] [--batch-size 32] [--learning-rate 1e-3]

The trainer runs as it does for a job: a run folder, a process of its own, checkpoints on the way. Then every test row
is classified with the result. Prints accuracy and macro-F1 (scikit-learn's), minutes, and what published encoders of
BERT's size reach (Casanueva et al. 2020, arXiv 2003.04807: 93.7 % with the full data). The last line is JSON.
"""

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from sklearn.metrics import accuracy_score, f1_score

from finery.training import objectives
from finery.training.checkpoint import start_from
from finery.training.model import TrainableModel
from finery.training.packing import pack
from finery.training.spec import EVENTS_FILE, RESULT_FOLDER, Event, LoraSpec, OptimizerSpec, RunSpec
from finery.training.tasks import read_items

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("FINERY_DATA_DIR", ROOT.parent / "shared" / "data")) / "banking77"
PUBLISHED = 0.937
TOKENS_PER_PASS = 4096


def main() -> None:
    """Train, score, print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--epochs", type=int, default=3)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--rows", type=int, default=0, help="train on so many rows only (0: all)")
    asked = arguments.parse_args()
    training, test = read("train.csv"), read("test.csv")
    labels = tuple(sorted({label for _, label in training}))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "training.jsonl", training[: asked.rows or None])
        write(folder / "test.jsonl", test)
        spec = RunSpec(
            job_id="banking77",
            base_model=asked.model.name,
            model_folder=str(asked.model.resolve()),
            training_file=str(folder / "training.jsonl"),
            task="classification",
            labels=labels,
            n_epochs=asked.epochs,
            batch_size=asked.batch_size,
            tokens_per_pass=TOKENS_PER_PASS,
            lora=LoraSpec(rank=16, alpha=32),
            optimizer=OptimizerSpec(learning_rate=asked.learning_rate),
            checkpoint_interval_steps=100,
        )
        spec.write(folder)
        minutes = train(folder)
        predicted, true = classify(folder, spec)
    figures = {
        "accuracy": accuracy_score(true, predicted),
        "macro_f1": f1_score(true, predicted, average="macro"),
        "training_rows": len(training[: asked.rows or None]),
        "test_rows": len(test),
        "minutes": minutes,
        "cores": os.cpu_count(),
        "epochs": asked.epochs,
        "batch_size": asked.batch_size,
        "learning_rate": asked.learning_rate,
        "published_accuracy": PUBLISHED,
    }
    print(json.dumps(figures))


def train(folder: Path) -> float:
    """Run the trainer on a run folder; returns its minutes."""
    began = time.monotonic()
    trainer = subprocess.Popen([sys.executable, "-m", "finery.training.run", str(folder)])
    seen = 0
    while trainer.poll() is None:
        time.sleep(5)
        seen = tell(folder / EVENTS_FILE, seen)
    tell(folder / EVENTS_FILE, seen)
    if trainer.returncode:
        sys.exit(f"the trainer ended with {trainer.returncode}")
    return (time.monotonic() - began) / 60


def tell(path: Path, seen: int) -> int:
    """Print messages, and every 25th step; returns the lines read so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines[seen:]:
        event = Event.parse(line)
        if event.type != "metrics" or event.data["step"] % 25 == 0:
            print(event.message, flush=True)
    return len(lines)


def classify(folder: Path, spec: RunSpec) -> tuple[list[int], list[int]]:
    """The places of the predicted and of the true labels of all test rows."""
    spec = dataclasses.replace(spec, start_from=str(folder / RESULT_FOLDER))
    model = TrainableModel.load(spec, "cuda" if torch.cuda.is_available() else "cpu")
    objectives.build(spec, model)
    start_from(model, spec)
    model.train(False)
    items = sorted(read_items(folder / "test.jsonl", spec), key=lambda item: item.num_tokens)
    predicted: list[int] = []
    with torch.inference_mode():
        for begin in range(0, len(items), 64):
            packed = pack([item.documents[0] for item in items[begin : begin + 64]], model.device)
            predicted += model.head_outputs(model.hidden(packed), packed).argmax(dim=1).tolist()
    return predicted, [int(item.target[0]) for item in items]


def read(name: str) -> list[tuple[str, str]]:
    """Text and intent of every row."""
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return [(row["text"].strip(), row["category"]) for row in csv.DictReader(file)]


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    """Rows as classification JSONL."""
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))


if __name__ == "__main__":
    main()
