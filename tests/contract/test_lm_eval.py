"""EleutherAI's harness against a running server: its log-likelihoods are ours."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from servers import Server

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval isn't installed (pip install 'lm-eval[api]')")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODELS = Path(os.environ.get("FINERY_MODELS", ROOT / ".cache" / "models"))
STARTER = "smollm2-135m-instruct"

TASK = """
task: held_out
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{context}}"
doc_to_target: "{{continuation}}"
target_delimiter: ""
metric_list: [{metric: perplexity}]
"""

CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Egypt": "Cairo", "Spain": "Madrid"}


@pytest.mark.skipif(not (MODELS / STARTER).is_dir(), reason=f"no starter model in {MODELS} (FINERY_MODELS)")
def test_perplexity_is_lm_evals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks import TaskManager

    from finery.modeling.template import ChatTemplate

    template = ChatTemplate.load(MODELS / STARTER)
    rows = [
        [{"role": "user", "content": f"What is the capital of {land}?"}, {"role": "assistant", "content": f"{town}."}]
        for land, town in CAPITALS.items()
    ]
    server = Server(tmp_path / "home", MODELS).start()
    try:
        ours, tokens = _ours(server, rows)
        end = template.decode([template.end_of_turn_id or template.eos_token_id])
        harness = [
            {
                "context": template.render(row[:1], add_generation_prompt=True),
                "continuation": row[1]["content"] + end,
            }
            for row in rows
        ]
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in harness))
        (tmp_path / "held_out.yaml").write_text(TASK.replace("ROWS", str(path)))
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        found: Any = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={
                "model": STARTER,
                "base_url": f"{server.url}/v1/completions",
                "tokenizer": str(MODELS / STARTER),
                "add_bos_token": False,
            },
            tasks=["held_out"],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
            log_samples=True,
            bootstrap_iters=0,
        )
        theirs = sum(sample["filtered_resps"][0][0] for sample in found["samples"]["held_out"])
        print(json.dumps({"ours": ours, "lm_eval": math.exp(-theirs / tokens), "tokens": tokens}))
        assert math.exp(-theirs / tokens) == pytest.approx(ours, rel=1e-3)
    finally:
        server.stop()


def _ours(server: Server, rows: list[list[dict[str, str]]]) -> tuple[float, int]:
    """Perplexity by `finery evaluate`'s route, and the tokens it is over."""
    text = "".join(json.dumps({"messages": row}) + "\n" for row in rows)
    file = server.openai(_strict_response_validation=False).files.create(
        file=("rows.jsonl", text.encode()), purpose="evals"
    )
    with server.http() as http:
        body = {"models": [STARTER], "data": file.id, "probe": False}
        path = f"/finery/v1/evaluations/{http.post('/finery/v1/evaluations', json=body).json()['id']}"
        end = time.monotonic() + 300
        while http.get(path).json()["status"] not in ("completed", "failed") and time.monotonic() < end:
            time.sleep(0.2)
        found = http.get(path).json()
        answers = http.get(f"{path}/answers").json()["data"]
    assert found["status"] == "completed", found
    tokens = sum(answer["answer"]["likelihood"]["tokens"] for answer in answers)
    return float(found["report"]["models"][0]["figures"]["perplexity"]["value"]), tokens
