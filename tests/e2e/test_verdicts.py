"""Real data, the starter model, the command line: a good run goes live, one at a hundred times its rate does not.

Banking77's first ten intents. Some ten minutes, so not part of the default run: `pytest -m slow -s
tests/e2e/test_verdicts.py`. `FINERY_TEST_REPORTS` names a folder that keeps the reports.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import banking77
from banking77 import MODELS, STARTER, Rows, messages
from servers import Server

INTENTS = 10
TRAINING_ROWS, HELD_OUT_ROWS = 30, 8
"""Of each intent."""
EPOCHS = 1
NAME = "intents"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200), *banking77.needs_all]


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """A user at a command line: a server, a folder with data, and what was made so far."""

    server: Server
    folder: Path

    @property
    def training(self) -> Path:
        return self.folder / "training.jsonl"

    @property
    def held_out(self) -> Path:
        return self.folder / "held_out.jsonl"

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "finery.cli", *words]
        options = ["--base-url", self.server.url, "--api-key", self.server.key]
        return subprocess.run([*command, *options], capture_output=True, text=True, check=False)

    def says(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def tune(self, **knobs: float) -> Any:
        words = [f"--{name.replace('_', '-')}={value}" for name, value in knobs.items()]
        return self.says("tune", str(self.training), "--model", STARTER, "--seed", "0", "--suffix", NAME, *words)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("verdicts")
    running = Server(folder / "home", MODELS, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1")).start()
    made = Desk(server=running, folder=folder)
    write(made.training, banking77.balanced(banking77.read("train.csv", INTENTS), TRAINING_ROWS))
    write(made.held_out, banking77.balanced(banking77.read("test.csv", INTENTS), HELD_OUT_ROWS))
    yield made
    running.stop()
    if kept := os.environ.get("FINERY_TEST_REPORTS"):
        shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("home"), dirs_exist_ok=True)


def write(path: Path, rows: Rows) -> None:
    lines = [{"messages": [*messages(text), {"role": "assistant", "content": intent}]} for text, intent in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_a_good_run_is_better_and_goes_live_and_a_harmful_one_is_worse_and_refused(desk: Desk) -> None:
    good = desk.tune(epochs=EPOCHS)
    tuned = good["fine_tuned_model"]
    asked = ["--data", str(desk.held_out), "--no-probe", "--max-tokens", "20", "--output"]
    evaluation = desk.says("evaluate", "--models", f"base,{tuned}", *asked, str(desk.folder / "good"))
    report = evaluation["report"]
    base_model, tuned_model = report["models"]
    tell(good, report)
    assert report["verdict"] == "better"
    assert report["rows"] == INTENTS * HELD_OUT_ROWS
    assert base_model["figures"]["accuracy"]["value"] <= 0.1
    for figure in ("accuracy", "macro_f1"):
        low, value, high = (tuned_model["figures"][figure][key] for key in ("low", "value", "high"))
        assert 0.5 <= low < value < high <= 1
    difference = report["comparisons"][0]["differences"]["accuracy"]
    assert 0.5 <= difference["low"] < difference["value"] < difference["high"] <= 1
    assert (desk.folder / "good" / "report.html").read_text().count("<svg") >= 4

    desk.says("deployments", "create", NAME, "--model", STARTER)
    done = desk.run("deployments", "rule", NAME, "--data", str(desk.held_out), "--no-forgetting")
    assert done.returncode == 0, done.stderr
    done = desk.run("deployments", "promote", NAME, "--model", tuned, "--evaluation", evaluation["id"])
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "Better" in done.stdout

    harmful = desk.tune(epochs=EPOCHS, learning_rate_multiplier=100)
    named = f"{NAME},{harmful['fine_tuned_model']}"
    evaluation = desk.says("evaluate", "--models", named, *asked, str(desk.folder / "harmful"))
    report = evaluation["report"]
    tell(harmful, report)
    assert report["verdict"] == "worse"
    assert report["models"][-1]["errors"] == 0
    assert report["comparisons"][0]["differences"]["accuracy"]["high"] < 0
    candidate = ["--model", harmful["fine_tuned_model"], "--evaluation", evaluation["id"]]
    refused = desk.run("deployments", "promote", NAME, *candidate)
    print(refused.stderr)
    assert refused.returncode == 1
    said = " ".join(refused.stderr.split())
    assert "Refused" in said
    assert "Worse" in said
    assert desk.says("deployments", "show", NAME)["model"] == tuned


def tell(job: Any, report: Any) -> None:
    pair = report["comparisons"][0]
    figures = {
        "seconds": job["finished_at"] - job["created_at"],
        "hyperparameters": job["hyperparameters"],
        "sentence": report["sentence"],
        "figures": {model["model"]: model["figures"] for model in report["models"]},
        "differences": pair["differences"],
        "calibration": {
            model["model"]: model["calibration"] and model["calibration"]["expected_calibration_error"]
            for model in report["models"]
        },
        "median_seconds_an_answer": [model["seconds_median"] for model in report["models"]],
    }
    print(json.dumps(figures, indent=1))
