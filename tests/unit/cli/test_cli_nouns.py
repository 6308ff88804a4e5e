"""Files, models, deployments, keys, jobs and chat against a real server on a socket."""

import io
import json
import os
import sys

import pytest
from typer.testing import CliRunner

from finery.cli import chat
from finery.cli.app import app
from finery.sdk import Finery

wire_server = sys.modules["wire_server"]

GOOD = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 12
BAD = GOOD + b'{"messages": [{"role": "robot", "content": "a"}]}\n'


def run(*arguments: str, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD)
    return path


@pytest.fixture
def faulty(tmp_path):
    path = tmp_path / "faulty.jsonl"
    path.write_bytes(BAD)
    return path


class TestFiles:
    def test_upload_show_list_download_delete(self, server, data, tmp_path):
        uploaded = run("files", "upload", data)
        assert uploaded.exit_code == 0
        assert "file-1" in uploaded.stdout
        assert "12 rows" in uploaded.stdout
        assert "data.jsonl" in run("files", "list").stdout
        assert "chat" in run("files", "show", "file-1").stdout
        copy = tmp_path / "copy.jsonl"
        assert run("files", "download", "file-1", "--output", copy).exit_code == 0
        assert copy.read_bytes() == GOOD
        assert run("files", "download", "file-1").stdout_bytes == GOOD
        assert run("files", "delete", "file-1").exit_code == 0
        assert server.state.files == {}

    def test_a_refused_upload_names_line_place_and_way_out(self, server, faulty):
        result = run("files", "upload", faulty)
        assert result.exit_code == 1
        assert "line 13" in result.stderr
        assert "$.messages[0].role" in result.stderr
        assert "Roles are system" in result.stderr

    def test_many_faults_of_a_kind_are_counted_and_their_way_out_told_once(self, server, tmp_path):
        path = tmp_path / "table.csv"
        path.write_text("text,label\n" * 500)
        shown = run("files", "check", path).stderr
        assert shown.count("Write the line with a JSON library") == 1
        assert shown.count("line ") < 30
        assert "… and 481 more" in shown  # 500 lines, and that no line is a row

    def test_check_needs_no_server_and_agrees_with_the_upload(self, server, data, faulty):
        good, bad = run("files", "check", data), run("files", "check", faulty, "--json")
        assert (good.exit_code, bad.exit_code) == (0, 1)
        assert server.state.requests == []
        run("files", "upload", faulty)
        assert json.loads(bad.stdout) == server.state.reports["file-1"]

    def test_a_download_that_breaks_off_leaves_the_old_file_and_nothing_else(self, server, tmp_path):
        target = tmp_path / "out" / "old.jsonl"
        target.parent.mkdir()
        target.write_text("old")
        server.state.break_off = 1
        result = run("files", "download", "file-1", "-o", target)
        assert result.exit_code == 1
        assert target.read_text() == "old"
        assert os.listdir(target.parent) == ["old.jsonl"]

    def test_a_download_into_no_folder_is_refused(self, server, tmp_path):
        result = run("files", "download", "file-1", "-o", tmp_path / "none" / "x")
        assert result.exit_code == 1
        assert "does not exist" in result.stderr

    def test_lists_for_scripts_are_whole_json(self, server, data):
        run("files", "upload", data)
        assert json.loads(run("files", "list", "--json").stdout)[0]["id"] == "file-1"
        assert json.loads(run("files", "show", "file-1", "--json").stdout)["report"]["rows"] == 12

    def test_names_from_elsewhere_cannot_command_the_terminal(self, server):
        name = "\x1b[31mred\x07\u202egpj [bold]markup[/bold].jsonl"
        server.state.files["file-1"] = {
            "id": "file-1",
            "filename": name,
            "purpose": "evals",
            "bytes": 1,
            "created_at": 1,
        }
        shown = run("files", "list").stdout
        assert not any(character in shown for character in "\x1b\x07\u202e")
        assert "[bold]markup[/bold]" in shown


class TestDeployments:
    def test_create_waits_until_it_answers(self, server):
        result = run("deployments", "create", "d", "--model", "m", "--sku", "Standard")
        assert (result.exit_code, result.stdout) == (0, "d answers now.\n")
        assert server.state.deployments["d"]["sku"] == {"name": "Standard"}
        assert "Succeeded" in run("deployments", "list").stdout
        assert "Succeeded" in run("deployments", "show", "d").stdout
        assert run("deployments", "delete", "d").exit_code == 0

    def test_no_wait_comes_back_at_once(self, server):
        assert "Creating" in run("deployments", "create", "d", "--model", "m", "--no-wait").stdout

    def test_a_failed_one_gives_the_reason_and_1(self, server):
        result = run("deployments", "create", "d", "--model", "too-big")
        assert result.exit_code == 1
        assert "out of memory" in result.stderr
        assert "finery deployments delete d" in result.stderr

    def test_update_sends_what_was_given_and_waits_for_the_proof(self, server):
        assert run("deployments", "create", "d", "--model", "m", "--capacity", "3").exit_code == 0
        result = run("deployments", "update", "d", "--model", "n", "--replicas", "2", "--idle-seconds", "0")
        assert (result.exit_code, result.stdout) == (0, "d is changed.\n")
        changed = server.state.deployments["d"]
        assert (changed["model"], changed["replicas"], changed["idle_seconds"]) == ("n", 2, None)
        assert changed["sku"] == {"capacity": 3}

    def test_a_failed_update_says_why_and_what_goes_on(self, server):
        run("deployments", "create", "d", "--model", "m")
        result = run("deployments", "update", "d", "--model", "too-big")
        assert result.exit_code == 1
        assert "out of memory" in result.stderr
        assert "m goes on answering" in result.stderr
        assert "Failed: out of memory" in run("deployments", "show", "d").stdout
        assert run("deployments", "update", "d").exit_code == 1

    def test_show_tells_of_parity_and_who_overrode_it(self, server):
        run("deployments", "create", "d", "--model", "m", "--accept-parity", "a trial")
        server.state.deployments["d"] |= {
            "certificate": {"passed": False, "agreement_but_ties": 0.5, "places": 96, "mean_kl": 1.25},
            "parity_override": {"reason": "a trial", "by": "key_1", "at": 0},
            "replicas": 2,
            "ready_replicas": 1,
        }
        shown = run("deployments", "show", "d").stdout
        assert "failed: the trainer's token at 50.0% of 96 places, KL 1.2500" in shown
        assert "a trial (key_1" in shown
        assert "1 of 2" in shown

    def test_the_servers_refusal_is_shown_as_it_is(self, server):
        run("deployments", "create", "d", "--model", "m")
        result = run("deployments", "create", "d", "--model", "m")
        assert (result.exit_code, result.stderr) == (1, "There is a deployment 'd' already.\n")


class TestKeys:
    def test_the_new_key_stands_alone_on_standard_output(self, server):
        result = run("keys", "create", "ci")
        assert result.stdout == "sk-finery-whole\n"
        assert "never shown again" in result.stderr
        assert "ci" in run("keys", "list").stdout
        assert run("keys", "revoke", "key-1").exit_code == 0
        assert "No keys" in run("keys", "list").stderr


class TestRoles:
    def test_make_known_give_list_take_back_forget(self, server):
        assert "Created ada" in run("principals", "create", "ada", "--subject", "8f2c").stdout
        assert "Created robot" in run("principals", "create", "robot", "--service-principal").stdout
        given = run("roles", "assign", "ada", "Reader", "--project", "support")
        assert given.stdout == "ada is Reader in the project support (assignments-1)\n"
        assert server.state.bodies == [
            {"name": "ada", "kind": "User", "subject": "8f2c"},
            {"name": "robot", "kind": "ServicePrincipal", "subject": None},
            {"principal": "ada", "role": "Reader", "project": "support", "hub": None},
        ]
        assert "8f2c" in run("principals", "list").stdout
        assert "ada" in (listed := run("roles", "list").stdout)
        assert "Reader" in listed
        assert json.loads(run("roles", "list", "--json").stdout)[0]["id"] == "assignments-1"
        assert run("roles", "remove", "assignments-1").stdout == "Removed assignments-1\n"
        assert run("principals", "delete", "ada").exit_code == 0
        assert list(server.state.people["principals"]) == ["robot"]
        assert server.state.people["assignments"] == {}

    def test_a_role_without_a_place_is_for_everything_and_says_so(self, server):
        assert "in the whole subscription" in run("roles", "assign", "ada", "Reader").stdout
        assert "in the hub lab" in run("roles", "assign", "ada", "Reader", "--hub", "lab").stdout

    def test_a_project_can_be_named(self, server, monkeypatch):
        monkeypatch.setenv("FINERY_PROJECT", " support ")
        with Finery() as finery:
            assert finery._wire.http.headers["openai-project"] == "support"
        monkeypatch.delenv("FINERY_PROJECT")
        with Finery() as finery:
            assert "openai-project" not in finery._wire.http.headers


class TestModels:
    def test_tuned_models_of_the_server_stand_beside_the_catalog(self, server):
        server.state.models = [
            {"id": "smollm2-135m-instruct", "created": 1, "owned_by": "finery"},
            {"id": "own-base", "created": 1, "owned_by": "finery"},
            {"id": "ft:m:p:s:1", "created": 1, "owned_by": "p", "parent": "smollm2-135m-instruct"},
        ]
        models = {model["id"]: model for model in json.loads(run("models", "list", "--json").stdout)}
        assert models["smollm2-135m-instruct"]["ready"]
        assert models["own-base"]["ready"]
        assert models["ft:m:p:s:1"]["kind"] == "tuned"
        assert "ft:m:p:s:1" in run("models", "list").stdout
        assert "smollm2-135m-instruct" in run("models", "show", "ft:m:p:s:1").stdout
        assert run("models", "delete", "ft:m:p:s:1").exit_code == 0
        assert len(server.state.models) == 2

    def test_the_catalog_is_listed_without_a_server(self, tmp_path):
        environment = {"FINERY_HOME": str(tmp_path), "FINERY_BASE_URL": "", "FINERY_API_KEY": ""}
        result = run("models", "list", env=environment)
        assert result.exit_code == 0
        assert "smollm2-135m-instruct" in result.stdout
        assert "finery serve" in result.stderr
        unknown = run("models", "show", "none", env=environment)
        assert (unknown.exit_code, unknown.stdout) == (1, "")
        assert "neither in the catalog nor on this machine" in unknown.stderr

    def test_pulling_what_the_catalog_lacks_lists_what_it_has(self, tmp_path):
        result = run("models", "pull", "none", "--home", tmp_path)
        assert result.exit_code == 1
        assert "smollm2-135m-instruct" in result.stderr


class TestJobs:
    @pytest.fixture(autouse=True)
    def _job(self, server):
        knobs = {"lora_rank": 32, "dora": False, "validation_split": 0.1}
        server.state.jobs["ftjob-1"] = wire_server.job("ftjob-1", metadata={"name": "support"}, **knobs)

    def test_list_and_show(self, server):
        assert "ftjob-1" in run("jobs", "list").stdout
        shown = run("jobs", "show", "ftjob-1").stdout
        assert "support" in shown
        assert "n_epochs=3" in shown
        assert "lora_rank=32" in shown
        assert "dora" not in shown
        assert json.loads(run("jobs", "show", "ftjob-1", "--json").stdout)["seed"] == 1

    @pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("pause", "pausing"), ("resume", "queued")])
    def test_moves(self, server, verb, status):
        assert run("jobs", verb, "ftjob-1").stdout == f"ftjob-1 is {status}.\n"

    def test_events_are_shown_oldest_first(self, server):
        server.state.events["ftjob-1"] = [wire_server.message(n, f"event {n}") for n in range(5)]
        lines = run("jobs", "events", "ftjob-1", "--limit", "3").stdout.splitlines()
        assert [line[-7:] for line in lines] == ["event 2", "event 3", "event 4"]

    def test_checkpoints(self, server):
        metrics = {"train_loss": 0.25, "full_valid_loss": 0.5}
        checkpoint = {"id": "c", "step_number": 7, "created_at": 1, "metrics": metrics}
        server.state.checkpoints = [{**checkpoint, "fine_tuned_model_checkpoint": "ft:m:p:s:1:ckpt-step-7"}]
        shown = run("jobs", "checkpoints", "ftjob-1").stdout
        for text in ("7", "0.250", "0.500", "ft:m:p:s:1:ckpt-step-7"):
            assert text in shown

    def test_results_come_as_they_are_or_say_that_there_are_none(self, server, tmp_path):
        none = run("jobs", "results", "ftjob-1")
        assert (none.exit_code, none.stdout) == (1, "")
        assert "queued" in none.stderr
        server.state.jobs["ftjob-1"]["result_files"] = ["file-r"]
        server.state.contents["file-r"] = b"step,train_loss\n1,2.5\n"
        assert run("jobs", "results", "ftjob-1").stdout == "step,train_loss\n1,2.5\n"
        run("jobs", "results", "ftjob-1", "-o", tmp_path / "r.csv")
        assert (tmp_path / "r.csv").read_bytes() == b"step,train_loss\n1,2.5\n"


class TestChat:
    def says(self, server, *texts, reason="stop"):
        deltas = [{"choices": [{"delta": {"content": text}, "finish_reason": None}]} for text in texts]
        server.state.answer = [*deltas, {"choices": [{"delta": {}, "finish_reason": reason}]}]

    def test_one_message_gives_the_answer_and_nothing_else(self, server):
        self.says(server, "Bon", "jour")
        result = run("chat", "d", "Hello", "--system", "Speak French.", "--temperature", "0")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "Bonjour\n", "")
        body = server.state.bodies[0]
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert body["temperature"] == 0

    def test_a_piped_message_is_read_whole(self, server):
        self.says(server, "ok")
        run("chat", "d", input="one\ntwo\n")
        assert server.state.bodies[0]["messages"] == [{"role": "user", "content": "one\ntwo\n"}]

    def test_a_cut_answer_says_so(self, server):
        self.says(server, "Once upon", reason="length")
        assert "--max-tokens" in run("chat", "d", "Tell").stderr

    def test_a_conversation_remembers_resets_and_outlives_an_error(self, server, monkeypatch, capsys):
        self.says(server, "aye")
        lines = iter(["first", "", "fails", "second", "/reset", "third"])

        def typed(_prompt):
            line = next(lines, None)
            if line is None:
                raise EOFError
            server.state.break_off = line == "fails"
            return line

        monkeypatch.setattr("builtins.input", typed)
        with Finery() as finery:
            chat.converse(finery, "d", [{"role": "system", "content": "s"}], {})
        asked = [[message["content"] for message in body["messages"]] for body in server.state.bodies]
        assert asked == [["s", "first"], ["s", "first", "aye", "second"], ["s", "third"]]
        assert "broke off" in capsys.readouterr().err

    def test_an_answer_cannot_command_a_terminal(self, server, monkeypatch):
        self.says(server, "\x1b]0;title\x07", "text\n\tmore")

        class Terminal(io.StringIO):
            def isatty(self):
                return True

        shown = Terminal()
        monkeypatch.setattr(sys, "stdout", shown)
        with Finery() as finery:
            whole = chat.answer(finery, "d", [], {})
        assert whole.startswith("\x1b")
        assert shown.getvalue() == "\ufffd]0;title\ufffdtext\n\tmore\n"


class TestWithoutAServer:
    @pytest.mark.parametrize(
        "command", [["jobs", "list"], ["files", "list"], ["deployments", "list"], ["keys", "list"], ["chat", "d", "hi"]]
    )
    def test_one_line_says_how_to_start_one(self, tmp_path, command):
        environment = {"FINERY_HOME": str(tmp_path), "FINERY_BASE_URL": "", "FINERY_API_KEY": ""}
        result = run(*command, env=environment)
        assert (result.exit_code, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1
        assert "finery serve" in result.stderr

    def test_a_wrong_key_is_the_servers_to_refuse(self, server):
        result = run("jobs", "list", "--api-key", "sk-wrong")
        assert (result.exit_code, result.stderr) == (1, "The API key isn't one of this server's.\n")
