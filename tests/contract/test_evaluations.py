"""`finery evaluate` and /finery/v1/evaluations on a running server, over a kill too."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers import Server, wait_for

MODEL = "tiny-phi3"
COLOURS = ("red", "green", "blue")


def rows(count: int) -> str:
    return "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "system", "content": "reply with the colour only"},
                    {"role": "user", "content": f"ticket {i} is about {COLOURS[i % 3]}"},
                    {"role": "assistant", "content": COLOURS[i % 3]},
                ]
            }
        )
        + "\n"
        for i in range(count)
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    """A server of our own, to be killed."""
    running = Server(tmp_path_factory.mktemp("evaluations") / "home", tiny_folder).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def tuned(own: Server) -> str:
    """A model that has learned to name the colour."""
    client = own.openai()
    file = client.files.create(file=("rows.jsonl", rows(60).encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file.id,
        seed=0,
        hyperparameters={"n_epochs": 6, "batch_size": 4, "learning_rate_multiplier": 10},
        extra_body={"validation_split": 0.2},
    )
    job = wait_for(job, client, "succeeded", "failed")
    assert job.status == "succeeded", job.error
    return str(job.fine_tuned_model)


def upload(server: Server, text: str, purpose: str = "evals") -> str:
    client = server.openai(_strict_response_validation=False)  # its type of a file knows no evals
    return client.files.create(file=("held_out.jsonl", text.encode()), purpose=purpose).id  # type: ignore[arg-type]


def wait(http: httpx.Client, evaluation_id: str, *statuses: str) -> dict[str, Any]:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found: dict[str, Any] = http.get(f"/finery/v1/evaluations/{evaluation_id}").json()
        if found["status"] in statuses:
            return found
        time.sleep(0.05)
    raise TimeoutError(str(found))


def test_evaluate_says_better_and_writes_its_report(own: Server, tuned: str, tmp_path: Path) -> None:
    data = tmp_path / "held_out.jsonl"
    data.write_text(rows(24))
    options = {"--models": f"base,{tuned}", "--data": str(data), "--output": str(tmp_path / "out"), "--name": "Colours"}
    options |= {"--base-url": own.url, "--api-key": own.key}
    command = [sys.executable, "-m", "finery.cli", "evaluate", *(part for pair in options.items() for part in pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Better: " in done.stdout
    assert "perplexity" in done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"] == "better"
    base, best = report["models"]
    assert best["figures"]["perplexity"]["high"] < base["figures"]["perplexity"]["low"]
    assert best["figures"]["token_accuracy"]["value"] > base["figures"]["token_accuracy"]["value"]
    assert best["completion_tokens"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert (tmp_path / "out" / "report.md").read_text().startswith("# Colours")
    # A model that has learned its labels is surer of them than one that never saw them.
    assert best["calibration"]["answers"] == 24
    assert best["calibration"]["confidence"] > base["calibration"]["confidence"]
    [picture] = (tmp_path / "out").glob("calibration-2-*.svg")
    assert picture.read_text() in page


def test_a_head_is_scored_as_a_classifier_by_its_validation(own: Server) -> None:
    client = own.openai()
    labelled = [{"text": f"ticket {i} is about {COLOURS[i % 3]}", "label": COLOURS[i % 3]} for i in range(36)]
    content = "".join(json.dumps(row) + "\n" for row in labelled).encode()
    files = [client.files.create(file=("labels.jsonl", content), purpose="fine-tune").id for _ in range(2)]
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files[0],
        validation_file=files[1],
        hyperparameters={"n_epochs": 2, "batch_size": 6, "learning_rate_multiplier": 10},
    )
    with own.http() as http:
        path = f"/finery/v1/fine_tuning/jobs/{job.id}/report"
        assert http.get(path).json()["error"]["code"] == "no_validation"
        assert wait_for(job, client, "succeeded", "failed").status == "succeeded"
        found = http.get(path).json()
        page, text, pictures = (http.get(f"{path}?format={form}") for form in ("html", "markdown", "pictures"))
    [model] = found["models"]
    assert found["labels"] == sorted(COLOURS)
    assert sum(map(sum, model["classification"]["confusion"])) == model["calibration"]["answers"] == 36
    assert model["classification"]["accuracy"] == pytest.approx(model["calibration"]["accuracy"])
    kinds = sorted(name.partition("-")[0] for name in pictures.json())
    assert kinds == ["calibration", "confusion", "f1_by_label.svg", "learning_curves.svg"]
    training, validation = found["curves"]
    assert [len(line["points"]) for line in (training, validation)] == [12, 2]
    assert all(picture in page.text for picture in pictures.json().values())
    assert found["sentence"] in text.text
    assert "expected calibration error" in text.text


@pytest.mark.parametrize("learned", ["labels", "target"])
def test_heads_of_several_labels_and_of_values_are_calibrated(own: Server, learned: str) -> None:
    client = own.openai()
    lists = {"labels": [[COLOURS[i % 3], "even"][: 2 - i % 2] for i in range(24)], "target": [i % 3 for i in range(24)]}
    rows = [{"text": f"ticket {i} is about {COLOURS[i % 3]}", learned: lists[learned][i]} for i in range(24)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files = [client.files.create(file=("rows.jsonl", content), purpose="fine-tune").id for _ in range(2)]
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=files[0], validation_file=files[1], hyperparameters={"n_epochs": 1, "batch_size": 6}
    )
    assert wait_for(job, client, "succeeded", "failed").status == "succeeded"
    with own.http() as http:
        path = f"/finery/v1/fine_tuning/jobs/{job.id}/report"
        found = http.get(path).json()
        page, pictures = (http.get(f"{path}?format={form}") for form in ("html", "pictures"))
    [model] = found["models"]
    assert found["rows"] == 24
    assert found["sentence"] in page.text
    if learned == "labels":
        assert found["labels"] == [each["label"] for each in model["label_calibration"]] == sorted([*COLOURS, "even"])
        assert {each["answers"] for each in model["label_calibration"]} == {24}
        assert found["sentence"].startswith("All labels right in ")
        assert len(pictures.json()) == 7
    else:
        assert sum(each["answers"] for each in model["values"]["bins"]) == 24
        assert model["figures"]["mean_absolute_error"]["value"] == model["values"]["mean_absolute_error"] > 0
        assert found["sentence"].startswith("Off by ")
        assert sorted(name.partition("-")[0] for name in pictures.json()) == ["learning_curves.svg", "values"]


def test_perplexity_is_the_trainers_validation_loss(own: Server, tuned: str) -> None:
    client = own.openai()
    [job] = [job for job in client.fine_tuning.jobs.list() if job.fine_tuned_model == tuned]
    [newest, *_] = client.fine_tuning.jobs.checkpoints.list(job.id).data
    # The same rows as the job's validation split, found by their tickets.
    with own.http() as http:
        held_out = http.get(f"/v1/files/{job.training_file}/content").text.splitlines(keepends=True)
        evaluation = http.post(
            "/finery/v1/evaluations",
            json={"models": [tuned], "data": upload(own, "".join(held_out)), "probe": False, "metric": "perplexity"},
        ).json()
        report = wait(http, evaluation["id"], "completed", "failed")["report"]
    perplexity = report["models"][0]["figures"]["perplexity"]["value"]
    assert newest.metrics.full_valid_loss is not None
    assert math.log(perplexity) == pytest.approx(newest.metrics.full_valid_loss, abs=0.15)


def test_an_evaluation_goes_on_after_a_kill_and_asks_nothing_twice(own: Server) -> None:
    with own.http() as http:
        body = {"models": [MODEL], "data": upload(own, rows(60)), "probe": False, "max_tokens": 20}
        evaluation = http.post("/finery/v1/evaluations", json=body).json()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if http.get(f"/finery/v1/evaluations/{evaluation['id']}").json()["counts"]["completed"] > 5:
                break
            time.sleep(0.02)
    own.kill()
    own.start()
    with own.http() as http:
        found = wait(http, evaluation["id"], "completed", "failed")
        assert found["counts"] == {"total": 60, "completed": 60}
        answers = http.get(f"/finery/v1/evaluations/{evaluation['id']}/answers?limit=1000").json()["data"]
        assert sorted(int(answer["row"]) for answer in answers) == list(range(60))


def test_a_prompt_over_the_context_is_an_error_of_its_row(own: Server) -> None:
    long = {"messages": [{"role": "user", "content": "red " * 3000}, {"role": "assistant", "content": "red"}]}
    with own.http() as http:
        data = upload(own, rows(3) + json.dumps(long) + "\n")
        made = http.post("/finery/v1/evaluations", json={"models": [MODEL], "data": data, "probe": False}).json()
        found = wait(http, made["id"], "completed", "failed")
        assert found["status"] == "completed", found["error"]
        assert found["report"]["models"][0]["errors"] == 1
        answers = http.get(f"/finery/v1/evaluations/{made['id']}/answers").json()["data"]
        [failed] = [answer for answer in answers if answer["status"] == "failed"]
        assert (failed["row"], "context" in failed["answer"]["error"]) == ("3", True)


@pytest.mark.parametrize(
    ("text", "body", "said"),
    [
        (rows(2), {"models": ["nobody"]}, "nobody"),
        (rows(2), {"models": []}, "models"),
        (rows(2), {"models": [MODEL, MODEL]}, "different"),
        (rows(2), {"metric": "bertscore"}, "bertscore"),
        (rows(2), {"models": ["parent", MODEL]}, "no parent"),
        (rows(2) + '{"messages": [{"role": "user", "content": "x"}]}\n', {}, "line 3"),
        (rows(2), {"data": "file-nothing"}, "file-nothing"),
        (rows(2), {"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cant_be_evaluated_is_refused_by_name(own: Server, text: str, body: dict[str, Any], said: str) -> None:
    with own.http() as http:
        asked = {"models": [MODEL], "data": upload(own, text), **body}
        answer = http.post("/finery/v1/evaluations", json=asked)
        assert answer.status_code in (400, 404), answer.text
        assert said in answer.json()["error"]["message"]
        assert http.get("/finery/v1/evaluations/evaluation_nothing").status_code == 404


def test_an_evaluation_can_be_cancelled_and_forgotten(own: Server) -> None:
    with own.http() as http:
        body = {"models": [MODEL], "data": upload(own, rows(300)), "probe": False, "max_tokens": 50}
        path = f"/finery/v1/evaluations/{http.post('/finery/v1/evaluations', json=body).json()['id']}"
        assert http.get(f"{path}/report").status_code == 409
        assert http.post(f"{path}/cancel").json()["status"] == "cancelled"
        assert http.post(f"{path}/cancel").status_code == 409
        assert path.rpartition("/")[2] in [e["id"] for e in http.get("/finery/v1/evaluations").json()["data"]]
        assert http.delete(path).json()["deleted"]
        assert http.get(path).status_code == 404
