"""The client against a real server on a socket (`cli/wire_server.py`)."""

import importlib.util
import itertools
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from finery.core.errors import InvalidRequest, Unauthenticated, Unavailable
from finery.sdk import ApiError, Finery, locate

if "wire_server" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("wire_server", Path(__file__).parent / "cli" / "wire_server.py")
    sys.modules["wire_server"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["wire_server"])
wire_server = sys.modules["wire_server"]
_running, server = wire_server._running, wire_server.server

ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@pytest.fixture
def finery(server):
    with Finery() as client:
        yield client


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No server named anywhere; an empty home."""
    for variable in ("FINERY_BASE_URL", "FINERY_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FINERY_HOME", str(tmp_path))
    return tmp_path


def run_from(home: Path, url: str, pid: int | None = None) -> None:
    (home / "server.json").write_text(json.dumps({"url": url, "pid": os.getpid() if pid is None else pid}))
    (home / "admin.key").write_text("sk-local\n")


def dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


class TestLocate:
    def test_the_local_server_and_its_key_are_found_in_the_home(self, bare):
        run_from(bare, "http://127.0.0.1:8123")
        connection = locate()
        assert (connection.base_url, connection.api_key) == ("http://127.0.0.1:8123", "sk-local")

    def test_a_given_home_counts_before_the_environments(self, bare, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        run_from(bare, "http://127.0.0.1:8123")
        run_from(other, "http://127.0.0.1:8999")
        assert locate(home=other).base_url == "http://127.0.0.1:8999"

    def test_the_local_key_is_never_sent_to_another_address(self, bare):
        run_from(bare, "http://127.0.0.1:8123")
        for elsewhere in ("http://127.0.0.1:8124", "https://finery.example.com", "http://example.com:8123"):
            with pytest.raises(Unauthenticated, match="--api-key"):
                locate(elsewhere)

    @pytest.mark.parametrize("same", ["http://localhost:8123", "http://127.0.0.1:8123/", "http://127.0.0.1:8123/v1/"])
    def test_other_spellings_of_the_local_address_get_the_local_key(self, bare, same):
        run_from(bare, "http://127.0.0.1:8123")
        connection = locate(same)
        assert connection.api_key == "sk-local"
        assert not connection.base_url.endswith(("/", "/v1"))

    def test_arguments_count_before_the_environment_before_the_home(self, bare, monkeypatch):
        run_from(bare, "http://127.0.0.1:1")
        monkeypatch.setenv("FINERY_BASE_URL", "http://127.0.0.1:2")
        monkeypatch.setenv("FINERY_API_KEY", "sk-environment")
        assert locate().base_url == "http://127.0.0.1:2"
        assert locate("http://127.0.0.1:3", "sk-given").api_key == "sk-given"
        assert locate("http://127.0.0.1:3").base_url == "http://127.0.0.1:3"

    @pytest.mark.parametrize("left_behind", ["dead process", "half a file", "nothing"])
    def test_no_running_server_says_how_to_start_one(self, bare, left_behind):
        if left_behind == "dead process":
            run_from(bare, "http://127.0.0.1:8123", dead_pid())
        if left_behind == "half a file":
            (bare / "server.json").write_text('{"url": "http')
        with pytest.raises(Unavailable, match="finery serve"):
            locate()

    @pytest.mark.parametrize(
        "text", ["localhost:8000", "ftp://x", "http://", "finery", "http://[::1", "http://a:99999"]
    )
    def test_what_is_no_address_is_named(self, bare, text):
        with pytest.raises(InvalidRequest, match=r"http://127\.0\.0\.1:8000") as caught:
            locate(text, "sk-x")
        assert text.rstrip("/") in caught.value.message

    @pytest.mark.parametrize("key", ["sk-a\nb", "sk-ключ"])
    def test_a_key_that_cant_travel_in_a_header_is_refused_here(self, bare, key):
        with pytest.raises(Unauthenticated):
            locate("http://127.0.0.1:1", key)


class TestFiles:
    def test_an_upload_arrives_whole_and_tells_how_far_it_is(self, finery, server, tmp_path):
        content = ROW * 5000
        path = tmp_path / "data.jsonl"
        path.write_bytes(content)
        seen = []
        file = finery.files.wait(finery.files.upload(path, progress=lambda *done: seen.append(done))["id"])
        assert server.state.contents[file["id"]] == content
        assert file["status"] == "processed"
        assert [sent for sent, _ in seen] == sorted(sent for sent, _ in seen)
        assert len(seen) > 3
        assert seen[-1] == (len(content), len(content))

    def test_content_comes_back_byte_for_byte(self, finery, tmp_path):
        path = tmp_path / "raw.bin"
        path.write_bytes(os.urandom(300_000))
        file = finery.files.upload(path, purpose="user_data")
        assert b"".join(finery.files.content(file["id"])) == path.read_bytes()

    def test_an_empty_file_and_an_odd_name_travel_too(self, finery, server, tmp_path):
        path = tmp_path / "a 'quoted' naïve; x.jsonl"
        path.write_bytes(b"")
        file = finery.files.upload(path)
        assert file["filename"] == path.name
        assert file["status"] == "error"
        assert finery.files.report(file["id"])["findings"][0]["code"] == "empty_file"

    def test_a_missing_file_is_an_os_error_before_any_request(self, finery, server, tmp_path):
        with pytest.raises(FileNotFoundError):
            finery.files.upload(tmp_path / "none.jsonl")
        assert server.state.requests == []


class TestPages:
    @pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 250])
    @pytest.mark.parametrize("limit", [None, 1, 100, 130, 1000])
    def test_a_list_is_whole_in_order_and_no_longer_than_asked(self, finery, server, number, limit):
        server.state.jobs = {f"ftjob-{n}": wire_server.job(f"ftjob-{n}") for n in range(number)}
        found = [job["id"] for job in finery.jobs.list(limit=limit)]
        expected = [f"ftjob-{n}" for n in reversed(range(number))]
        assert found == expected[:limit]
        assert len(server.state.requests) == max(1, -(-len(found) // 100))


class TestFollow:
    def start(self, server, batches):
        numbers = itertools.count()
        server.state.jobs["ftjob-1"] = wire_server.job("ftjob-1")
        server.state.unfolding = [[wire_server.message(next(numbers), "…") for _ in range(size)] for size in batches]

    @pytest.mark.parametrize("batches", [[1], [0, 0, 3], [2, 0, 230, 1], [150, 150]])
    def test_every_event_comes_once_oldest_first(self, finery, server, batches):
        self.start(server, batches)
        followed = [event["id"] for event in finery.jobs.follow("ftjob-1", poll_seconds=0)]
        assert followed == [f"ftevent-{n}" for n in range(sum(batches))]

    def test_a_paused_job_ends_the_following(self, finery, server):
        self.start(server, [2])
        server.state.ending = {"status": "paused"}
        assert len(list(finery.jobs.follow("ftjob-1", poll_seconds=0))) == 2

    def test_a_server_that_goes_away_for_a_while_is_waited_for(self, finery, server):
        self.start(server, [2, 2, 2])
        outages = []
        following = finery.jobs.follow("ftjob-1", poll_seconds=0, on_outage=outages.append)
        first = next(following)
        server.state.break_off = 5
        assert [first["id"], *(event["id"] for event in following)] == [f"ftevent-{n}" for n in range(6)]
        assert server.state.break_off == 0
        assert len(outages) == 1

    def test_a_server_that_stays_away_is_given_up(self, finery, server):
        self.start(server, [1, 1])
        server.state.break_off = 10**9
        with pytest.raises(Unavailable):
            list(finery.jobs.follow("ftjob-1", poll_seconds=0, patience_seconds=0))

    def test_an_unknown_job_is_not_waited_for(self, finery):
        with pytest.raises(ApiError, match="ftjob-none"):
            list(finery.jobs.follow("ftjob-none", poll_seconds=0))


class TestChat:
    def chunk(self, **choice):
        return {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {}, "finish_reason": None} | choice],
        }

    def test_pieces_come_in_order_with_the_reason_it_ended(self, finery, server):
        server.state.answer = [
            {"choices": [], "prompt_filter_results": []},
            self.chunk(delta={"role": "assistant", "content": ""}),
            self.chunk(delta={"content": "Bon"}),
            self.chunk(delta={"content": "jour\n\ndata: 1"}),
            self.chunk(finish_reason="stop"),
            {"choices": [], "usage": {"total_tokens": 3}},
        ]
        deltas = list(finery.chat.stream("m", [{"role": "user", "content": "hi"}], temperature=0, max_tokens=None))
        assert "".join(delta.text for delta in deltas) == "Bonjour\n\ndata: 1"
        assert deltas[-1].finish_reason == "stop"
        assert server.state.bodies[-1] == {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "temperature": 0,
        }

    def test_an_error_inside_the_stream_is_raised_after_what_was_said(self, finery, server):
        broken = {"error": {"message": "The inference server ended.", "type": "server_error", "code": "unavailable"}}
        server.state.answer = [self.chunk(delta={"content": "Bon"}), broken]
        stream = finery.chat.stream("m", [])
        assert next(stream).text == "Bon"
        with pytest.raises(ApiError, match="The inference server ended") as caught:
            next(stream)
        assert caught.value.code == "unavailable"


class TestErrors:
    def test_the_servers_own_words_code_and_field_arrive(self, finery):
        with pytest.raises(ApiError, match="The model 'unknown' does not exist") as caught:
            finery.jobs.create("unknown", "file-1")
        assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")

    def test_a_refused_stream_is_an_error_too(self, server):
        with Finery(server.url, "sk-wrong") as finery, pytest.raises(ApiError) as caught:
            list(finery.chat.stream("m", []))
        assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")

    def test_an_answer_that_is_not_ours_says_so(self, finery):
        with pytest.raises(ApiError, match="is there a Finery server at"):
            finery._wire.call("GET", "/html")

    def test_nobody_there_says_how_to_start_one(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # Bound and not listening: connections are refused.
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with Finery(url, "sk-x") as finery, pytest.raises(Unavailable, match="finery serve") as caught:
                finery.models.retrieve("m")
        assert url in caught.value.message

    def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(self, server, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        with Finery() as finery:
            assert list(finery.models.list()) == []


class TestOtherNouns:
    @pytest.mark.parametrize("name", ["ft:m:default:my suffix:1", "owner/model", "a?b#c", "ünï", "100%25"])
    def test_any_name_stays_one_part_of_the_path(self, finery, server, name):
        server.state.models = [{"id": name, "object": "model"}]
        assert finery.models.retrieve(name)["id"] == name
        finery.models.delete(name)
        assert server.state.models == []
        raw = server.state.requests[0][1]
        assert raw.count("/") == 3
        assert ":" in raw or ":" not in name

    def test_a_deployment_is_made_waited_for_and_taken_down(self, finery, server):
        assert finery.deployments.create("d", "m")["status"] == "Creating"
        assert finery.deployments.wait("d", poll_seconds=0)["status"] == "Succeeded"
        assert [deployment["name"] for deployment in finery.deployments.list()] == ["d"]
        with pytest.raises(ApiError, match="already"):
            finery.deployments.create("d", "m")
        finery.deployments.delete("d")
        assert server.state.deployments == {}

    def test_a_key_is_shown_once_listed_and_revoked(self, finery):
        made = finery.keys.create("ci")
        assert made["key"] == "sk-finery-whole"
        assert [set(key) & {"key"} for key in finery.keys.list()] == [set()]
        finery.keys.revoke(made["id"])
        assert list(finery.keys.list()) == []

    def test_fields_left_open_are_not_sent(self, finery, server):
        finery.jobs.create("m", "file-1", suffix=None, seed=7, validation_split=0.1)
        assert server.state.bodies == [{"model": "m", "training_file": "file-1", "seed": 7, "validation_split": 0.1}]

    @pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("pause", "pausing"), ("resume", "queued")])
    def test_a_job_is_moved(self, finery, server, verb, status):
        server.state.jobs["ftjob-1"] = wire_server.job("ftjob-1")
        assert getattr(finery.jobs, verb)("ftjob-1")["status"] == status
