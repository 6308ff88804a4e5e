"""The real server process: its door, its streams, adapters changed under load, and what callers see when it dies."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from finery.core.errors import CorruptArtifact, InvalidRequest, Unauthenticated, Unavailable, UnknownModel
from finery.serving.config import READY_FILE, ServerConfig
from finery.serving.process import InferenceProcess
from finery.serving.protocol import Delta, Finish, GenerateRequest
from finery.serving.remote import InferenceClient

ENDLESS = {2: -100.0, 0: -100.0}
"""Biases under which a model never ends its turn."""


@pytest.fixture(scope="module")
def config(tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]) -> ServerConfig:
    return ServerConfig(
        model_folder=str(tiny_models["llama"]),
        adapters={"first": str(tiny_adapters["llama"][0])},
        slots=3,
        threads=1,
        context_tokens=512,
    )


@pytest.fixture(scope="module")
def running(config: ServerConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceProcess]:
    process = InferenceProcess.start(tmp_path_factory.mktemp("running"), config)
    yield process
    process.kill()


def run(process: InferenceProcess, scenario: Callable[[InferenceClient], Awaitable[Any]]) -> Any:
    """Wait for the server and play a scenario with one client."""

    async def play() -> Any:
        async with await process.wait_ready(60) as client:
            return await scenario(client)

    return asyncio.run(play())


def request(**fields: Any) -> GenerateRequest:
    return GenerateRequest(**({"prompt": "The iron", "temperature": 0.0, "max_tokens": 10} | fields))


async def ask(client: InferenceClient, **fields: Any) -> tuple[str, Finish]:
    parts = [part async for part in client.generate(request(**fields))]
    assert isinstance(parts[-1], Finish)
    return "".join(part.text for part in parts if isinstance(part, Delta)), parts[-1]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that will happen; the suite's own time limit is the guard."""
    while not await condition():
        await asyncio.sleep(0.01)


async def metric(client: InferenceClient, name: str) -> float:
    lines = dict(line.split() for line in (await client.metrics()).splitlines())
    return float(lines[f"finery_inference_{name}"])


def test_it_says_what_it_serves(running: InferenceProcess) -> None:
    health = run(running, lambda client: client.health())
    assert health == {"status": "ok", "engine": "llamacpp", "context_tokens": 512, "slots": 3, "adapters": ["first"]}


@pytest.mark.parametrize("given", [None, "Bearer wrong", "wrong"])
@pytest.mark.parametrize("path", ["/health", "/generate", "/adapters/x", "/metrics", "/nowhere"])
def test_every_route_asks_for_the_token(running: InferenceProcess, path: str, given: str | None) -> None:
    run(running, lambda client: client.health())
    port = json.loads((running.folder / READY_FILE).read_text())["port"]
    headers = {} if given is None else {"Authorization": given}
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers).status_code == 401


def test_a_wrong_token_is_its_own_error(running: InferenceProcess) -> None:
    async def scenario(client: InferenceClient) -> None:
        port = json.loads((running.folder / READY_FILE).read_text())["port"]
        async with InferenceClient(port, "another") as stranger:
            with pytest.raises(Unauthenticated):
                await stranger.health()

    run(running, scenario)


def test_answers_stream_and_equal_themselves(running: InferenceProcess) -> None:
    async def scenario(client: InferenceClient) -> None:
        text, finish = await ask(client, max_tokens=20, logit_bias=ENDLESS)
        assert finish.completion_tokens == 20
        assert (await ask(client, max_tokens=20, logit_bias=ENDLESS))[0] == text
        tokens = await client.tokenize(request())
        assert await client.detokenize(tokens) == "The iron"
        scored = await client.score(tokens, top=2)
        assert [token.id for token in scored] == tokens[1:]
        assert all(token.logprob is not None and token.logprob < 0 for token in scored)

    run(running, scenario)


def test_errors_keep_their_kind(running: InferenceProcess) -> None:
    async def scenario(client: InferenceClient) -> None:
        with pytest.raises(UnknownModel, match="'nobody'"):
            await ask(client, adapter="nobody")
        with pytest.raises(UnknownModel):
            await client.delete_adapter("nobody")
        with pytest.raises(InvalidRequest) as refused:
            await ask(client, temperature=5.0)
        assert refused.value.param == "temperature"
        with pytest.raises(InvalidRequest):
            await client.embed([5, 6])
        with pytest.raises(CorruptArtifact):
            await client.put_adapter("ghost", running.folder / "nowhere")

    run(running, scenario)


def test_a_caller_who_goes_away_frees_the_place(running: InferenceProcess) -> None:
    async def scenario(client: InferenceClient) -> None:
        streams = [client.generate(request(max_tokens=500, logit_bias=ENDLESS)) for _ in range(6)]
        # More than there are slots: three are decoded, three wait in line; all of them go away.
        first = [asyncio.create_task(anext(stream)) for stream in streams]
        await until(lambda: _equals(metric(client, "requests_running"), 3))
        await until(lambda: _equals(metric(client, "requests_waiting"), 3))
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)
        for stream in streams:
            await stream.aclose()
        await until(lambda: _equals(metric(client, "requests_running"), 0))
        assert await metric(client, "requests_waiting") == 0
        assert (await ask(client))[1].completion_tokens > 0

    run(running, scenario)


async def _equals(value: Awaitable[float], wanted: float) -> bool:
    return await value == wanted


def test_adapters_change_under_load_without_a_failed_request(
    running: InferenceProcess, tiny_adapters: dict[str, list[Path]]
) -> None:
    async def scenario(client: InferenceClient) -> None:
        fields: dict[str, Any] = {"max_tokens": 60, "logit_bias": ENDLESS}
        expected = {name: (await ask(client, adapter=name, **fields))[0] for name in (None, "first")}
        busy = True

        async def load(name: str | None) -> int:
            rounds = 0
            while busy:
                assert (await ask(client, adapter=name, **fields))[0] == expected[name]
                rounds += 1
            return rounds

        loads = [asyncio.create_task(load(name)) for name in (None, "first", None)]
        for name, folder in (("second", tiny_adapters["llama"][1]), ("team/third:x", tiny_adapters["llama"][2])):
            await client.put_adapter(name, folder)
            assert (await ask(client, adapter=name, **fields))[0] not in expected.values()
        await client.delete_adapter("second")
        await client.delete_adapter("team/third:x")
        busy = False
        assert all(rounds > 0 for rounds in await asyncio.gather(*loads))
        assert await client.adapters() == {"first": str(tiny_adapters["llama"][0])}

    run(running, scenario)


def test_an_engine_that_dies_is_replaced(running: InferenceProcess) -> None:
    async def scenario(client: InferenceClient) -> None:
        stream = client.generate(request(max_tokens=500, logit_bias=ENDLESS))
        await anext(stream)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        with pytest.raises(Unavailable):
            [part async for part in stream]
        await until(lambda: _serves(client))

    run(running, scenario)


async def _serves(client: InferenceClient) -> bool:
    try:
        return (await ask(client))[1].completion_tokens > 0
    except Unavailable:
        return False


def test_a_killed_server_is_a_clean_error_and_takes_its_engine_along(config: ServerConfig, tmp_path: Path) -> None:
    process = InferenceProcess.start(tmp_path / "server", config)

    async def scenario(client: InferenceClient) -> list[str]:
        streams = [client.generate(request(max_tokens=500, logit_bias=ENDLESS)) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        for stream in streams:
            with pytest.raises(Unavailable):
                [part async for part in stream]
        with pytest.raises(Unavailable):
            await client.health()
        await until(lambda: _gone(children))
        return children

    assert run(process, scenario)
    assert not process.alive


async def _gone(pids: list[str]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() and _state(pid) != "Z" for pid in pids)


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_a_server_ends_with_the_process_that_started_it(config: ServerConfig, tmp_path: Path) -> None:
    starter = (
        "import sys, time; from pathlib import Path; from finery.serving.config import ServerConfig;"
        "from finery.serving.process import InferenceProcess;"
        "folder = Path(sys.argv[1]); config = ServerConfig.read(folder);"
        "print(InferenceProcess.start(folder, config).pid, flush=True); time.sleep(600)"
    )
    config.write(tmp_path)
    parent = subprocess.Popen([sys.executable, "-c", starter, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = parent.stdout.readline().strip()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    asyncio.run(until(lambda: _gone([pid])))


def test_a_server_that_can_not_start_says_why(config: ServerConfig, tmp_path: Path) -> None:
    wrong = ServerConfig(model_folder=config.model_folder, engine="abacus")
    with pytest.raises(InvalidRequest, match="'abacus' is no engine"):
        run(InferenceProcess.start(tmp_path / "one", wrong), lambda client: client.health())
    missing = ServerConfig(model_folder=str(tmp_path / "nowhere"))
    with pytest.raises(CorruptArtifact):
        run(InferenceProcess.start(tmp_path / "two", missing), lambda client: client.health())


def test_a_server_left_over_is_killed_before_a_new_one_starts(config: ServerConfig, tmp_path: Path) -> None:
    old = InferenceProcess.start(tmp_path, config)
    new = InferenceProcess.start(tmp_path, config)
    asyncio.run(until(lambda: _gone([str(old.pid)])))
    assert run(new, lambda client: client.health())["status"] == "ok"
    asyncio.run(new.stop())
    assert not new.alive
    old.kill()


def test_it_stops_in_order_when_asked(config: ServerConfig, tmp_path: Path) -> None:
    process = InferenceProcess.start(tmp_path, config)

    async def scenario() -> None:
        async with await process.wait_ready(60) as client:
            await ask(client)
        await process.stop()

    asyncio.run(scenario())
    assert not process.alive
    assert process.resident_bytes == 0


def test_without_a_token_it_refuses_to_run(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "FINERY_INFERENCE_TOKEN"}
    command = [sys.executable, "-m", "finery.serving.server", str(tmp_path)]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "FINERY_INFERENCE_TOKEN" in refused.stderr


def test_neither_client_nor_server_imports_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None;"
        "import finery.serving.server, finery.serving.process, finery.serving.remote, finery.serving.engines.llamacpp"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_client_needs_no_engine() -> None:
    script = (
        "import sys; sys.modules['torch'] = sys.modules['xllamacpp'] = sys.modules['gguf'] = None;"
        "import finery.serving.process, finery.serving.remote"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
