"""EleutherAI's harness against a running server: its log-likelihoods are ours."""

import json
import math
import os
import time
from pathlib import Path

import pytest

from clients import ROOT, python_with, run
from finery.modeling.template import ChatTemplate
from servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

MODELS = Path(os.environ.get("FINERY_MODELS", ROOT / ".cache" / "models"))
STARTER = "smollm2-135m-instruct"

TASK = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
"""The task of the documentation."""

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Egypt": "Cairo", "Spain": "Madrid", "Kenya": "Nairobi",
    "Norway": "Oslo", "Sweden": "Stockholm", "Greece": "Athens", "Poland": "Warsaw", "Austria": "Vienna",
    "Peru": "Lima", "Cuba": "Havana", "Chile": "Santiago", "Ireland": "Dublin", "Germany": "Berlin",
    "Portugal": "Lisbon", "Denmark": "Copenhagen", "Finland": "Helsinki", "Hungary": "Budapest",
}  # fmt: skip


# Sentences, for a thousandth is more than the engine's own rounding only over some hundred tokens: the harness has the
# whole prompt scored token by token, we only the answer.
@pytest.mark.skipif(not (MODELS / STARTER).is_dir(), reason=f"no starter model in {MODELS} (FINERY_MODELS)")
def test_perplexity_is_lm_evals(tmp_path: Path) -> None:
    python = python_with("lm-eval")
    template = ChatTemplate.load(MODELS / STARTER)
    rows = [
        [
            {"role": "user", "content": f"What is the capital of {land}?"},
            {"role": "assistant", "content": f"The capital of {land} is {town}."},
        ]
        for land, town in CAPITALS.items()
    ]
    end = template.decode([template.end_of_turn_id or template.eos_token_id])
    lines = [
        {"context": template.render(row[:1], add_generation_prompt=True), "continuation": row[1]["content"] + end}
        for row in rows
    ]
    server = Server(tmp_path / "home", MODELS).start()
    try:
        ours, tokens = _ours(server, rows)
        found = _theirs(python, server, lines, tmp_path)
    finally:
        server.stop()
    assert len(found) == len(rows)
    theirs = math.exp(-sum(found) / tokens)
    print(json.dumps({"finery": ours, "lm_eval": theirs, "tokens": tokens}))
    assert theirs == pytest.approx(ours, rel=1e-3)


def _theirs(python: str, server: Server, lines: list[dict[str, str]], folder: Path) -> list[float]:
    """The log-likelihood of each continuation, by the command of docs/evaluation.md."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "support.yaml").write_text(TASK)
    settings = {
        "model": STARTER,
        "base_url": f"{server.url}/v1/completions",
        "tokenizer": str(MODELS / STARTER),
    }
    run(
        str(Path(python).with_name("lm_eval")),
        "",
        *("--tasks", "support", "--include_path", ".", "--model", "local-completions"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in settings.items())),
        *("--output_path", "out", "--log_samples"),
        home=folder,
        OPENAI_API_KEY=server.key,
        HF_HUB_OFFLINE="1",
        HF_HOME=str(folder / "hf"),
    )
    [samples] = (folder / "out").rglob("samples_support_*.jsonl")
    return [
        float(json.loads(line)["filtered_resps"][0][0]) for line in samples.read_text(encoding="utf-8").splitlines()
    ]


def _ours(server: Server, rows: list[list[dict[str, str]]]) -> tuple[float, int]:
    """Perplexity by `finery evaluate`'s route, and the tokens it is over."""
    text = "".join(json.dumps({"messages": row}) + "\n" for row in rows)
    file = server.openai(_strict_response_validation=False).files.create(
        file=("rows.jsonl", text.encode()), purpose="evals"
    )
    with server.http() as http:
        body = {"models": [STARTER], "data": file.id, "probe": False}
        path = f"/finery/v1/evaluations/{http.post('/finery/v1/evaluations', json=body).json()['id']}"
        end = time.monotonic() + 600
        while http.get(path).json()["status"] not in ("completed", "failed") and time.monotonic() < end:
            time.sleep(0.2)
        found = http.get(path).json()
        answers = http.get(f"{path}/answers").json()["data"]
    assert found["status"] == "completed", found
    tokens = sum(answer["answer"]["likelihood"]["tokens"] for answer in answers)
    return float(found["report"]["models"][0]["figures"]["perplexity"]["value"]), tokens
