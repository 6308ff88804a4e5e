"""The command line on training data, against a real server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from servers import Server


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "tickets.csv"
    lines = [f"ticket number {i} about red things,{['red', 'blue'][i % 2]}" for i in range(20)]
    path.write_text("question,answer\n" + "\n".join([*lines, lines[4]]) + "\n")
    return path


def finery(server: Server, *arguments: str) -> str:
    environment = os.environ | {"FINERY_BASE_URL": server.url, "FINERY_API_KEY": server.key, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "finery.cli", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_a_csv_to_a_cleaned_version_with_its_tokens_seen(server: Server, rows: Path) -> None:
    jsonl = rows.with_suffix(".jsonl")
    columns = ("--column", "user=question", "--column", "assistant=answer")
    assert "21 rows" in finery(server, "files", "convert", str(rows), "--output", str(jsonl), *columns)
    uploaded = json.loads(finery(server, "files", "upload", str(jsonl), "--json"))["id"]
    assert "blue<|im_end|>" in finery(server, "files", "line", uploaded, "2", "--model", "tiny-phi3")
    assert "Trained on" in finery(server, "files", "tokens", uploaded, "--model", "tiny-phi3")
    report = json.loads(finery(server, "files", "quality", uploaded, "--json"))
    assert report["statistics"]["duplicates"]["exact"] == 1
    cleaned = json.loads(finery(server, "files", "clean", uploaded, "drop_exact_duplicates", "--json"))
    assert cleaned["record"]["steps"][0]["dropped"] == [21]
    for file_id in (uploaded, cleaned["file"]["id"]):
        finery(server, "datasets", "add", "cli-tickets", file_id)
    shown = finery(server, "datasets", "show", "cli-tickets")
    assert "cli-tickets:2" in shown
    assert uploaded in shown
    split = json.loads(finery(server, "files", "split", cleaned["file"]["id"], "--count", "4", "--json"))
    assert len(split["record"]["validation_lines"]) == 4
    assert "used by no job" in finery(server, "datasets", "delete", "cli-tickets")
