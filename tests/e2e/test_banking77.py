"""Real data, the starter model, default settings: Banking77's customers, ten intents, one epoch.

Minutes long, so not part of the default run: `pytest -m slow tests/e2e/test_banking77.py -s`.
"""

import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import banking77
from banking77 import MODELS, STARTER, Rows, messages
from servers import Server, wait_for

INTENTS = 10
TRAINING_ROWS = 800
PARITY_ROWS = 100

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), *banking77.needs_all]


@pytest.fixture(scope="module")
def data() -> tuple[Rows, Rows]:
    """800 rows to train on, all held-out rows of the same ten intents."""
    training = banking77.read("train.csv", INTENTS)
    random.Random(0).shuffle(training)
    return training[:TRAINING_ROWS], banking77.read("test.csv", INTENTS)


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    threads = str(os.cpu_count())
    running = Server(tmp_path_factory.mktemp("banking") / "home", MODELS, OMP_NUM_THREADS=threads).start()
    yield running
    running.stop()


def answers(server: Server, model: str, texts: list[str]) -> list[str]:
    client = server.openai()

    def ask(text: str) -> str:
        reply = client.chat.completions.create(model=model, messages=messages(text), temperature=0, max_tokens=40)  # type: ignore[arg-type]
        return (reply.choices[0].message.content or "").strip()

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, texts))


def accuracy(got: list[str], rows: Rows) -> float:
    return sum(answer == label for answer, (_, label) in zip(got, rows, strict=True)) / len(rows)


def reference_answers(base: Path, adapter: Path, texts: list[str]) -> list[str]:
    """Greedy answers of transformers and PEFT with the adapter as it was trained."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    got = []
    for text in texts:
        prompt = tokenizer.apply_chat_template(
            messages(text), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = model.generate(**prompt, max_new_tokens=40, do_sample=False)
        got.append(tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return got


def test_banking77(slow_server: Server, data: tuple[Rows, Rows]) -> None:
    training, held_out = data
    client = slow_server.openai()
    lines = [
        json.dumps({"messages": [*messages(text), {"role": "assistant", "content": label}]}) for text, label in training
    ]
    file = client.files.create(file=("banking.jsonl", "\n".join(lines).encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=STARTER, training_file=file.id, seed=0, hyperparameters={"n_epochs": 1}, suffix="banking"
    )
    job = wait_for(job, client, "succeeded", "failed", seconds=1200)
    assert job.status == "succeeded", job.error

    texts = [text for text, _ in held_out]
    base = accuracy(answers(slow_server, STARTER, texts), held_out)
    served = answers(slow_server, job.fine_tuned_model, texts)
    tuned = accuracy(served, held_out)
    events = client.fine_tuning.jobs.list_events(job.id, limit=1000)
    losses = [e.data["train_loss"] for e in reversed(list(events)) if e.type == "metrics" and "train_loss" in e.data]
    (adapter,) = (slow_server.home / "adapters").iterdir()
    reference = reference_answers(MODELS / STARTER, adapter, texts[:PARITY_ROWS])
    same = sum(a == b for a, b in zip(served, reference, strict=False)) / PARITY_ROWS
    figures = {
        "base_accuracy": base,
        "tuned_accuracy": tuned,
        "held_out_rows": len(held_out),
        "seconds": job.finished_at - job.created_at,
        "first_losses": losses[:3],
        "last_losses": losses[-3:],
        "same_as_reference": same,
        "hyperparameters": job.hyperparameters.to_dict(),
    }
    print(json.dumps(figures))
    assert tuned >= 0.93
    assert base <= 0.05
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
    assert same >= 0.95
