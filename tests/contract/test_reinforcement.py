"""The unmodified `openai` SDK asks for reinforcement; a tiny model is rewarded more and more, and then it answers."""

from typing import Any

import openai
import pytest

from servers import Server, upload, wait_for

COLOURS = ["red", "green", "blue", "yellow"]
HYPERPARAMETERS = {
    "n_epochs": 4,
    "batch_size": 4,
    "learning_rate_multiplier": 100,
    "compute_multiplier": 0.5,
    "eval_interval": 2,
    "eval_samples": 2,
    "reasoning_effort": "medium",
}
GRADER = {
    "type": "multi",
    "name": "letters",
    # One grader, as the SDK's types have it; its documents have graders by name, which are taken too.
    "graders": {
        "type": "string_check",
        "name": "letter",
        "input": "{{sample.output_text}}",
        "reference": "{{item.wanted.letter}}",
        "operation": "like",
    },
    "calculate_output": "0.9 * letter + 0.1",
}


def row(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"It is {COLOURS[number % 4]} and number {number}"}]
    return {"messages": messages, "wanted": {"letter": "e"}}


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def finished(client: openai.OpenAI) -> Any:
    """A job that has succeeded."""
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=upload(client, [row(n) for n in range(12)]),
        validation_file=upload(client, [row(n) for n in range(4)]),
        suffix="letters",
        seed=7,
        method={
            "type": "reinforcement",
            "reinforcement": {
                "grader": GRADER,
                "hyperparameters": HYPERPARAMETERS,
            },
        },
        extra_body={"lora_rank": 8, "precision": "fp32", "max_completion_tokens": 8, "schedule": "constant"},
    )
    return wait_for(job, client, "succeeded", "failed", "cancelled", seconds=280)


def test_the_job_comes_back_as_it_was_asked_for(finished: Any) -> None:
    assert finished.status == "succeeded", finished.error
    assert finished.fine_tuned_model.startswith("ft:tiny-phi3:default:letters:")
    assert finished.method.type == "reinforcement"
    assert finished.method.reinforcement.grader.to_dict() == GRADER
    assert finished.method.reinforcement.hyperparameters.to_dict() == HYPERPARAMETERS
    assert (finished.loss, finished.kl_weight, finished.max_completion_tokens) == ("grpo", 0.04, 8)
    assert finished.trained_tokens > 0


def test_events_tell_of_rewards_and_they_rise(client: openai.OpenAI, finished: Any) -> None:
    steps = [event for event in client.fine_tuning.jobs.list_events(finished.id, limit=100) if event.type == "metrics"]
    steps.reverse()
    assert len(steps) == 12
    rewards = [event.data["train_reward_mean"] for event in steps]
    assert sum(rewards[-3:]) > sum(rewards[:3])
    # By the interval, and at the end of an epoch.
    due = [step % 2 == 0 or step % 3 == 0 for step in range(1, 13)]
    assert ["valid_reward_mean" in event.data for event in steps] == due
    last = steps[-1]
    assert last.message.startswith("Step 12/12: train mean reward=")
    assert last.data["scores"]["valid_reward_mean"] == last.data["full_valid_mean_reward"]
    assert [part["name"] for part in last.data["scores"]["graders"]] == ["letter"]
    assert {"kl_mean", "completion_tokens_mean", "total_steps", "learning_rate"} <= set(last.data)


def test_checkpoints_and_results_carry_rewards(client: openai.OpenAI, finished: Any) -> None:
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(finished.id))
    rewards = {one.fine_tuned_model_checkpoint: one.metrics.valid_reward_mean for one in checkpoints}
    best = [one.fine_tuned_model_checkpoint for one in checkpoints if one.best]
    assert len(best) == 1
    assert rewards[best[0]] == max(rewards.values())
    header, *lines = client.files.content(finished.result_files[0]).text.strip().splitlines()
    assert header.endswith("train_reward_mean,valid_reward_mean,completion_tokens_mean,kl_mean")
    assert len(lines) == 12


def test_an_estimate_counts_answers_and_takes_the_pace_of_a_job_like_it(
    server: Server, client: openai.OpenAI, finished: Any
) -> None:
    asked: dict[str, Any] = {
        "model": "tiny-phi3",
        "training_file": upload(client, [row(n) for n in range(24)]),
        "method": "reinforcement",
        "options": {"n_epochs": 2, "batch_size": 4, "compute_multiplier": 0.5},
        "grader": GRADER,
    }
    with server.http() as http:
        found = http.post("/finery/v1/estimates", json=asked).json()
        refused = [
            http.post("/finery/v1/estimates", json=asked | change).json()["error"]
            for change in ({"grader": None}, {"method": "supervised", "grader": None}, {"grader": {"type": "taste"}})
        ]
    assert (found["steps"], found["answers"], found["measured_by"]) == (12, 24 * 2 * 4, finished.id)
    # The job drew as many answers: 12 rows, 4 epochs, 4 answers each.
    assert 0 < found["seconds"] <= finished.finished_at - finished.created_at
    assert [error["param"] for error in refused][:2] == ["method.reinforcement.grader", "method.type"]
    assert "no answer to learn from" in refused[1]["message"]
    assert "taste" in refused[2]["message"]


def test_the_tuned_model_answers_as_it_was_rewarded(client: openai.OpenAI, finished: Any) -> None:
    said = client.chat.completions.create(
        model=finished.fine_tuned_model, messages=row(1)["messages"], temperature=1, seed=1, n=8, max_tokens=8
    )
    assert sum("e" in (choice.message.content or "") for choice in said.choices) >= 5


def test_rows_that_the_grader_cant_read_fail_the_job_by_their_line(client: openai.OpenAI) -> None:
    rows = [row(n) for n in range(12)]
    rows[4] = {**rows[4], "wanted": {}}
    job = create(client, upload(client, rows))
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "line 5" in job.error.message
    assert "letter" in job.error.message


def test_rows_of_another_kind_are_refused_by_method(client: openai.OpenAI) -> None:
    chat = {"messages": [*row(0)["messages"], {"role": "assistant", "content": "red"}]}
    job = create(client, upload(client, [chat] * 12))
    assert (job.error.code, job.error.param) == ("invalid_training_file", "method.type")
    plain = client.fine_tuning.jobs.create(model="tiny-phi3", training_file=upload(client, [row(n) for n in range(12)]))
    plain = wait_for(plain, client, "failed", "succeeded")
    assert plain.error.param == "method.type"
    assert "no answer to learn from" in plain.error.message


def test_a_prompt_that_leaves_no_room_for_answers_is_named(client: openai.OpenAI) -> None:
    long = {**row(0), "messages": [{"role": "user", "content": "red " * 1020}]}
    job = create(client, upload(client, [*(row(n) for n in range(12)), long]))
    assert job.error.code == "invalid_training_file"
    assert "line 13" in job.error.message


def create(client: openai.OpenAI, file: str) -> Any:
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=file,
        method={"type": "reinforcement", "reinforcement": {"grader": GRADER}},
    )
    return wait_for(job, client, "failed", "succeeded")
