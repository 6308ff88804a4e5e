"""OpenAI's evals and graders, by the unmodified SDK in strict mode; Foundry's samples by the plain one."""

import json
import time
from typing import Any

import openai
import pytest

from servers import Server

MODEL = "tiny-phi3"
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}, "a": {"type": "string"}}, "required": ["q", "a"]}
SAME = {
    "type": "string_check",
    "name": "same",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.a }}",
    "operation": "eq",
}


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


def make(client: openai.OpenAI, *criteria: dict[str, Any], **options: Any) -> Any:
    config = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
    return client.evals.create(
        name="colours",
        data_source_config=config,  # type: ignore[arg-type]
        testing_criteria=list(criteria) or [SAME],  # type: ignore[arg-type]
        **options,
    )


def content(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"type": "jsonl", "source": {"type": "file_content", "content": list(rows)}}


def said(text: str, **item: str) -> dict[str, Any]:
    return {"item": {"q": "which colour", "a": "blue", **item}, "sample": {"output_text": text}}


def finished(client: openai.OpenAI, run: Any) -> Any:
    end = time.monotonic() + 120
    while run.status not in ("completed", "failed", "canceled") and time.monotonic() < end:
        time.sleep(0.1)
        run = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
    return run


def grade(client: openai.OpenAI, grader: dict[str, Any], text: str, item: Any = None) -> Any:
    return client.fine_tuning.alpha.graders.run(grader=grader, model_sample=text, item=item or {})  # type: ignore[arg-type]


def test_an_eval_of_kept_answers_counts_who_passed(client: openai.OpenAI) -> None:
    python = "def grade(sample, item):\n    return len(sample['output_text']) / 10"
    made = make(
        client,
        SAME,
        {"type": "text_similarity", "name": "close", "input": "{{ sample.output_text }}", "reference": "{{ item.a }}"}
        | {"evaluation_metric": "fuzzy_match", "pass_threshold": 0.8},
        {"type": "python", "name": "long", "source": python, "pass_threshold": 0.4},
        metadata={"team": "a"},
    )
    assert (made.object, made.name, made.metadata) == ("eval", "colours", {"team": "a"})
    source = content(said("blue"), said("blues"), said("red"), said("blue", a="{}"))
    run = finished(client, client.evals.runs.create(made.id, name="first", data_source=source))  # type: ignore[arg-type]
    assert run.status == "completed", run.error
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (4, 1, 3, 0)
    by_name = {each.testing_criteria: (each.passed, each.failed) for each in run.per_testing_criteria_results}
    assert by_name == {"same": (1, 3), "close": (2, 2), "long": (3, 1)}
    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=3))
    assert sorted(item.datasource_item_id for item in items) == [0, 1, 2, 3]
    [passed] = client.evals.runs.output_items.list(run.id, eval_id=made.id, status="pass")
    assert passed.datasource_item["a"] == "blue"
    assert [(each.name, each.passed, each.score) for each in passed.results] == [
        ("same", True, 1.0),
        ("close", True, 1.0),
        ("long", True, 0.4),
    ]
    again = client.evals.runs.output_items.retrieve(passed.id, eval_id=made.id, run_id=run.id)
    assert again.sample.output[0].content == "blue"


def test_a_model_is_asked_and_judged_by_models(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Is it {{ item.a }}? {{ sample.output_text }}"}]
    made = make(
        client,
        SAME,
        {"type": "score_model", "name": "score", "model": MODEL, "input": messages, "range": [0, 1e9]},
        {"type": "label_model", "name": "label", "model": MODEL, "input": messages}
        | {"labels": ["right", "wrong"], "passing_labels": ["right", "wrong"]},
    )
    asked = {"type": "template", "template": [{"role": "user", "content": "{{ item.q }}"}]}
    source = {
        "type": "completions",
        "model": MODEL,
        "input_messages": asked,
        "sampling_params": {"temperature": 0, "max_completion_tokens": 6, "seed": 1},
        "source": {"type": "file_content", "content": [{"item": {"q": f"colour {i}", "a": "x"}} for i in range(3)]},
    }
    run = finished(client, client.evals.runs.create(made.id, data_source=source))  # type: ignore[arg-type]
    assert run.status == "completed", run.error
    assert run.model == MODEL
    assert run.result_counts.total == 3
    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id))
    direct = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "colour 0"}],
        temperature=0,
        max_completion_tokens=6,
        seed=1,
    )
    first = next(item for item in items if item.datasource_item_id == 0)
    assert first.sample.output[0].content == direct.choices[0].message.content
    assert first.sample.input[0].content == "colour 0"
    assert first.sample.usage.completion_tokens > 0
    label = next(each for each in first.results if each.name == "label")
    assert label.passed or label.sample
    [usage] = run.per_model_usage
    assert usage.run_model_name == MODEL
    assert usage.invocation_count >= 3


def test_what_goes_wrong_with_an_item_is_that_items_error(client: openai.OpenAI) -> None:
    loop = {
        "type": "python",
        "name": "loop",
        "source": "def grade(sample, item):\n    while item['a'] == 'loop': pass\n    return 1",
    }
    made = make(client, SAME, loop)
    source = content(said("blue"), {"item": {"q": "no label"}, "sample": {"output_text": "x"}}, said("x", a="loop"))
    run = finished(client, client.evals.runs.create(made.id, data_source=source))  # type: ignore[arg-type]
    assert run.status == "completed"
    assert (run.result_counts.passed, run.result_counts.errored) == (1, 2)
    items = {item.datasource_item_id: item for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)}
    assert "item.a" in str(items[1].results[0].sample)
    assert "stopped" in str(items[2].results[1].sample)
    asked = {"type": "template", "template": [{"role": "user", "content": "{{ item.q }}"}]}
    completions = {
        "type": "completions",
        "model": MODEL,
        "input_messages": asked,
        "sampling_params": {"max_completion_tokens": 2},
        "source": {"type": "file_content", "content": [{"item": {"q": "red " * 3000, "a": ""}}, {"item": {"a": "x"}}]},
    }
    run = finished(client, client.evals.runs.create(make(client).id, data_source=completions))  # type: ignore[arg-type]
    assert (run.status, run.result_counts.errored) == ("completed", 2)
    errors = {item.sample.error.message for item in client.evals.runs.output_items.list(run.id, eval_id=run.eval_id)}
    assert any("context" in error for error in errors)
    assert any("item.q" in error for error in errors)


def test_files_and_stored_completions_are_sources(client: openai.OpenAI, server: Server) -> None:
    rows = "".join(json.dumps(said(text)) + "\n" for text in ("blue", "red"))
    # The SDK's own type of a file doesn't know the purpose that the SDK sends.
    plain = server.openai(_strict_response_validation=False)
    file = plain.files.create(file=("rows.jsonl", rows.encode()), purpose="evals")
    made = make(client)
    run = client.evals.runs.create(made.id, data_source={"type": "jsonl", "source": {"type": "file_id", "id": file.id}})
    assert finished(client, run).result_counts.passed == 1
    kept = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "red"}],
        max_tokens=3,
        store=True,
        metadata={"use": "evals-test"},
    )
    stored = {"type": "stored_completions", "metadata": {"use": "evals-test"}}
    by_length = {"type": "python", "name": "n", "source": "def grade(sample, item):\n    return len(item['input'])"}
    made = client.evals.create(data_source_config=stored, testing_criteria=[by_length])  # type: ignore[arg-type,list-item]
    source: Any = {"type": "completions", "source": stored}
    run = finished(client, client.evals.runs.create(made.id, data_source=source))
    assert (run.status, run.result_counts.passed) == ("completed", 1)
    [item] = client.evals.runs.output_items.list(run.id, eval_id=made.id)
    assert item.sample.output[0].content == kept.choices[0].message.content


def test_evals_and_runs_are_listed_renamed_cancelled_and_forgotten(client: openai.OpenAI) -> None:
    made = make(client)
    assert client.evals.update(made.id, name="other", metadata={"x": "y"}).name == "other"
    assert client.evals.retrieve(made.id).metadata == {"x": "y"}
    assert made.id in [each.id for each in client.evals.list(limit=2)]
    slow = {
        "type": "python",
        "name": "slow",
        "source": "import time\ndef grade(sample, item):\n    time.sleep(1)\n    return 1",
    }
    held = make(client, slow)
    run = client.evals.runs.create(held.id, data_source=content(*[said("blue")] * 200))  # type: ignore[arg-type]
    assert client.evals.runs.cancel(run.id, eval_id=held.id).status == "canceled"
    with pytest.raises(openai.ConflictError):
        client.evals.runs.cancel(run.id, eval_id=held.id)
    assert [each.id for each in client.evals.runs.list(held.id, status="canceled")] == [run.id]
    with pytest.raises(openai.NotFoundError):
        client.evals.runs.retrieve(run.id, eval_id=made.id)
    assert client.evals.runs.delete(run.id, eval_id=held.id).deleted
    assert client.evals.delete(held.id).deleted
    with pytest.raises(openai.NotFoundError, match=held.id):
        client.evals.retrieve(held.id)


@pytest.mark.parametrize(
    ("criteria", "param"),
    [
        ([], "testing_criteria"),
        ([SAME | {"operation": "near"}], "testing_criteria[0].operation"),
        ([SAME, SAME | {"type": "vibes"}], "testing_criteria[1].type"),
        ([{"type": "python", "name": "p", "source": "x ="}], "grader.source"),
    ],
)
def test_criteria_that_could_never_grade_are_refused(client: openai.OpenAI, criteria: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.evals.create(data_source_config={"type": "custom", "item_schema": SCHEMA}, testing_criteria=criteria)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (content(), "no items"),
        ({"type": "jsonl", "source": {"type": "file_id", "id": "file-nothing"}}, "file-nothing"),
        ({"type": "completions", "model": MODEL, "source": content({"item": {}})["source"]}, "input_messages"),
        ({"type": "completions", "model": "nobody", "source": content({"item": {}})["source"]}, "nobody"),
        ({"type": "jsonl", "source": {"type": "file_content"}}, "content is missing"),
    ],
)
def test_data_that_cant_be_graded_is_refused(client: openai.OpenAI, source: Any, said: str) -> None:
    with pytest.raises(openai.APIStatusError, match=said) as refused:
        client.evals.runs.create(make(client).id, data_source=source)
    assert refused.value.status_code in (400, 404)


def test_graders_are_tried_and_validated(client: openai.OpenAI) -> None:
    same = {**SAME, "reference": "{{ item.label }}"}
    assert client.fine_tuning.alpha.graders.validate(grader=same).grader.name == "same"  # type: ignore[arg-type,union-attr]
    answer = grade(client, same, "blue", {"label": "blue"})
    assert (answer.reward, answer.metadata.scores) == (1.0, {"same": 1.0})
    missing = grade(client, same, "blue", {})
    assert missing.metadata.errors.invalid_variable_error
    python = {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return open('/etc/passwd')"}
    refused = grade(client, python, "x")
    assert refused.metadata.errors.python_grader_runtime_error
    assert "PermissionError" in refused.metadata.errors.python_grader_runtime_error_details
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {"same": same, "close": {**same, "type": "text_similarity", "evaluation_metric": "rouge_l"}},
        "calculate_output": "0.5 * same + 0.5 * close",
    }
    answer = grade(client, multi, "a blue car", {"label": "blue"})
    assert answer.sub_rewards == pytest.approx({"same": 0.0, "close": 0.5})
    assert answer.reward == pytest.approx(0.25)
    field = {**same, "input": "{{ sample.output_json.colour }}"}
    assert grade(client, field, '{"colour": "blue"}', {"label": "blue"}).reward == 1.0
    with pytest.raises(openai.BadRequestError, match="operation"):
        client.fine_tuning.alpha.graders.validate(grader={**same, "operation": "near"})  # type: ignore[arg-type]


def test_cosine_compares_vectors_of_a_model(client: openai.OpenAI) -> None:
    cosine = {"type": "text_similarity", "name": "c", "input": "{{ sample.output_text }}", "reference": "{{ item.a }}"}
    cosine |= {"evaluation_metric": "cosine", "model": MODEL}
    answer = grade(client, cosine, "a red ticket", {"a": "a red ticket"})
    assert answer.reward == pytest.approx(1.0, abs=1e-4), answer.metadata.errors
    assert answer.api_model_grader_token_usage_per_model[MODEL] > 0
    assert grade(client, cosine, "a red ticket", {"a": "yellow"}).reward < 0.999


def test_a_foundry_sample_runs(server: Server) -> None:
    """The steps of Foundry's evaluation samples: azure_ai_evaluator criteria, polled until completed or failed."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
    f1 = {
        "type": "azure_ai_evaluator",
        "name": "f1",
        "evaluator_name": "builtin.f1_score",
        "data_mapping": {"response": "{{item.response}}", "ground_truth": "{{item.ground_truth}}"},
    }
    judged = {
        "type": "azure_ai_evaluator",
        "name": "coherence",
        "evaluator_name": "builtin.coherence",
        "data_mapping": {"query": "{{item.query}}", "response": "{{item.response}}"},
        "initialization_parameters": {"deployment_name": MODEL},
    }
    config: Any = {"type": "custom", "item_schema": {"type": "object", "properties": {}}, "include_sample_schema": True}
    made = client.evals.create(name="quality", data_source_config=config, testing_criteria=[f1, judged])  # type: ignore[list-item]
    rows = [
        {"item": {"query": "Capital?", "response": "The capital is Paris", "ground_truth": "Paris"}},
        {"item": {"query": "Capital?", "response": "Paris", "ground_truth": "Paris"}},
    ]
    run = client.evals.runs.create(eval_id=made.id, name="run", data_source=content(*rows))  # type: ignore[arg-type]
    run = finished(client, run)
    assert run.status == "completed", run.error
    items = {item.datasource_item_id: item for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)}
    assert items[0].results[0].score == pytest.approx(0.5)
    assert items[1].results[0].score == 1.0
    assert items[1].results[0].passed
    assert items[0].results[1].score in (1.0, 2.0, 3.0, 4.0, 5.0)
