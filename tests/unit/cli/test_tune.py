"""`finery tune` and `finery jobs follow`: from a file to the report, and every way in which it ends otherwise."""

import json
import sys

import pytest
from typer.testing import CliRunner

from finery.cli import training
from finery.cli.app import app
from finery.cli.tune import job_fields, parse_knobs
from finery.core.errors import InvalidRequest
from finery.core.hyperparameters import EXTRAS, HYPERPARAMETERS

wire_server = sys.modules["wire_server"]

GOOD = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 12
LOSSES = [3.0, 2.0, 1.5, 1.0, 0.75, 0.5]


def run(*arguments: str, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD)
    return path


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Polling without waiting: the server makes a step of progress with each look."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


@pytest.fixture
def trains(server):
    """The next job trains in two looks and succeeds."""
    steps = [wire_server.metrics(n, n, len(LOSSES), loss) for n, loss in enumerate(LOSSES, start=1)]
    steps[-1]["data"] |= {"full_valid_loss": 0.625, "full_valid_mean_token_accuracy": 0.9}
    server.state.unfolding = [[wire_server.message(0, "Fine-tuning job started"), *steps[:3]], steps[3:]]
    return server


def test_the_whole_job_from_one_command(trains, data):
    result = run("tune", data, "--model", "m", "--suffix", "support", "--seed", "7", "--name", "first")
    assert result.exit_code == 0
    for text in ("ft:m:p:s:1", "3.000 → 0.500", "12,345", "1 min 30 s", "0.625", "90.0%"):
        assert text in result.stdout
    assert "12 rows" in result.stderr
    assert "Fine-tuning job started" in result.stderr
    assert "finery deployments create my-model --model ft:m:p:s:1" in result.stderr
    body = trains.state.bodies[0]
    assert body["suffix"] == "support"
    assert body["seed"] == 7
    assert body["metadata"] == {"name": "first"}
    assert "validation_file" not in body


def test_for_scripts_the_job_alone_is_on_standard_output(trains, data):
    result = run("tune", data, "--model", "m", "--json")
    assert json.loads(result.stdout)["status"] == "succeeded"


def test_a_validation_file_is_uploaded_too(trains, data, tmp_path):
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_bytes(GOOD)
    run("tune", data, "--model", "m", "--validation", held_out)
    assert trains.state.bodies[0]["validation_file"] == "file-2"


def test_refused_data_names_its_lines_starts_nothing_and_leaves_nothing(server, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(GOOD + b"{}\n" + b"not json\n")
    result = run("tune", path, "--model", "m")
    assert result.exit_code == 1
    assert "line 13" in result.stderr
    assert "line 14" in result.stderr
    assert "No job was started" in result.stderr
    assert (server.state.files, server.state.jobs) == ({}, {})


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--epochs", "0", "n_epochs"),
        ("--split", "0.9", "validation_split"),
        ("--batch-size", "1000", "batch_size"),
        ("--set", "lora_rank=0", "lora_rank"),
        ("--set", "lora_rnak=8", "lora_rnak"),
        ("--set", "lora_rank", "lora_rank"),
    ],
)
def test_a_value_out_of_range_is_refused_before_anything_is_sent(server, data, option, value, named):
    result = run("tune", data, "--model", "m", option, value)
    assert result.exit_code == 1
    assert named in result.stderr
    assert server.state.requests == []


def test_two_kinds_of_validation_are_wrong_usage(server, data):
    assert run("tune", data, "--model", "m", "--split", "0.1", "--validation", data).exit_code == 2


def test_a_grader_makes_it_reinforcement(trains, data, tmp_path):
    grader = tmp_path / "grader.json"
    grader.write_text('{"type": "string_check"}')
    assert run("tune", data, "--model", "m", "--grader", grader, "--set", "eval_interval=5").exit_code == 0
    assert trains.state.bodies[0]["method"] == {
        "type": "reinforcement",
        "reinforcement": {"grader": {"type": "string_check"}, "hyperparameters": {"eval_interval": 5}},
    }
    assert run("tune", data, "--model", "m", "--grader", grader, "--method", "dpo").exit_code == 2
    grader.write_text("def grade():")
    refused = run("tune", data, "--model", "m", "--grader", grader)
    assert refused.exit_code == 1
    assert "no JSON" in refused.stderr


def test_a_refused_job_says_what_the_server_said(server, data):
    result = run("tune", data, "--model", "unknown")
    assert result.exit_code == 1
    assert "The model 'unknown' does not exist." in result.stderr


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (
            {"status": "failed", "error": {"code": "worker_out_of_memory", "message": "No memory left."}},
            "No memory left.",
        ),
        ({"status": "failed", "error": None}, "no reason"),
        ({"status": "cancelled"}, "was cancelled"),
    ],
)
def test_a_job_that_ends_badly_ends_the_command_with_1(trains, data, ending, words):
    trains.state.ending = ending
    result = run("tune", data, "--model", "m")
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Loss" not in result.stdout


def test_a_paused_job_tells_how_it_goes_on(trains, data):
    trains.state.ending = {"status": "paused"}
    result = run("tune", data, "--model", "m")
    assert result.exit_code == 0
    assert "finery jobs resume ftjob-1" in result.stderr


def test_ctrl_c_leaves_the_job_alone_and_says_so(trains, data, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.View, "show", interrupted)
    result = run("tune", data, "--model", "m")
    assert result.exit_code == 130
    assert "finery jobs follow ftjob-1" in result.stderr
    assert "finery jobs cancel ftjob-1" in result.stderr
    assert not any(path.endswith("/cancel") for _, path in trains.state.requests)


def test_following_later_shows_the_whole_story(trains):
    trains.state.jobs["ftjob-1"] = wire_server.job("ftjob-1")
    result = run("jobs", "follow", "ftjob-1")
    assert result.exit_code == 0
    assert "3.000 → 0.500" in result.stdout
    assert result.stderr.count("Step 1/6") == 1


def test_a_log_of_many_steps_stays_short(server):
    steps = [wire_server.metrics(n, n, 2000, 1.0) for n in range(1, 2001)]
    server.state.jobs["ftjob-1"] = wire_server.job("ftjob-1")
    server.state.unfolding = [steps]
    lines = [line for line in run("jobs", "follow", "ftjob-1").stderr.splitlines() if "Step" in line]
    assert 15 <= len(lines) <= 25
    assert "Step 2000/2000" in lines[-1]


def test_every_knob_lands_where_a_job_has_it():
    given = {"n_epochs": 2, "batch_size_multiplier": 2.0, "lora_targets": ["q_proj"], "dora": None}
    assert job_fields(given, "dpo") == {
        "method": {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2}}},
        "batch_size_multiplier": 2.0,
        "lora_targets": ["q_proj"],
    }


def test_every_knob_of_the_table_can_be_set():
    texts = {"integer": None, "number": "0.25", "boolean": "true", "strings": '["q_proj"]', "numbers": "[1, 2]"}
    for knob in (*HYPERPARAMETERS, *EXTRAS):
        text = knob.choices[0] if knob.kind == "choice" else texts[knob.kind] or f"{knob.high:.0f}"
        job_fields(parse_knobs([f"{knob.name}={text}"]), None)


def test_an_equals_sign_in_a_value_belongs_to_it():
    with pytest.raises(InvalidRequest, match="a=b"):
        job_fields(parse_knobs(["schedule=a=b"]), None)


def test_time_left_is_guessed_from_the_last_steps_only():
    history = training.History()
    slow = [wire_server.metrics(1000 * n, n, 100, 1.0) for n in range(1, 11)]
    fast = [wire_server.metrics(10_000 + 2 * n, 10 + n, 100, 1.0) for n in range(1, 41)]
    for event in [*slow, *fast]:
        history.take(event)
    assert history.seconds_left() == pytest.approx(2 * 50)


def test_a_server_that_restarts_is_told_of_and_waited_for(trains):
    trains.state.jobs["ftjob-1"] = wire_server.job("ftjob-1")
    trains.state.break_off = 3
    result = run("jobs", "follow", "ftjob-1")
    assert result.exit_code == 0
    assert result.stderr.count("waiting for the server") == 1
    assert "3.000 → 0.500" in result.stdout


class TestOnATerminal:
    """The live bar and the plot, drawn as a terminal would get them."""

    @pytest.fixture(autouse=True)
    def _terminal(self, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")  # Rich takes any stream for a terminal.
        monkeypatch.setenv("COLUMNS", "100")

    def test_bar_report_and_plot(self, trains, data):
        result = run("tune", data, "--model", "m")
        assert result.exit_code == 0
        assert "step 6/6" in result.stderr
        assert "validation 0.625" in result.stderr
        assert "Step 1/6" not in result.stderr
        assert "│" in result.stdout
        assert "3.000" in result.stdout
        assert "0.500" in result.stdout

    def test_a_loss_that_is_no_number_spoils_no_report(self, trains, data):
        steps = [wire_server.metrics(n, n, 4, loss) for n, loss in enumerate([2.0, 1.0, 1.5, 1e999], start=1)]
        history = training.History()
        for event in steps:
            history.take(event)
        training.report({**wire_server.job("ftjob-1"), "status": "succeeded"}, history)
