"""How fast Finery's inference server is beside llama.cpp and transformers. Run: python benchmarks/serving.py --help

All sides serve the same f16 (transformers: fp32) weights with the same threads, answer the same prompts greedily with
answers of one length, and take turns within a round, so that a slow minute of the machine falls on all; figures are
medians over rounds. `single` is one stream; `parallel` is 8 at once, against llama.cpp's own HTTP server; `latency` is
the time to the first token of 8 clients, beside that server's and over the engine's own; `plane` is both once more
through a whole `finery serve`, by OpenAI's API, without and with the content filter; `recovery` kills its inference
server under load; `adapters` spreads clients over 20 adapters, against all of them on one, on llama.cpp and on torch;
`many` registers 200 adapters. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from finery.core.errors import Unavailable
from finery.modeling import sources
from finery.modeling.adapters import AdapterConfig, write_adapter
from finery.modeling.architectures import linear_layers
from finery.serving import artifacts
from finery.serving.config import ServerConfig
from finery.serving.process import InferenceProcess
from finery.serving.protocol import Delta, GenerateRequest
from finery.serving.remote import InferenceClient
from finery.serving.wire import Wire, lines_of

PARTS = ("single", "parallel", "latency", "plane", "recovery", "adapters", "many")
STREAMS = 8
CONTEXT = 1024
PROMPT_TOKENS = 32

Figures = dict[str, float]


class Peer:
    """A child process of this file that answers lines of JSON."""

    def __init__(self, role: str, arguments: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--role", role, "--model", arguments.model]
        self._process = subprocess.Popen(
            [*command, "--threads", str(arguments.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.hello = self._read()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))


def llamacpp(arguments: argparse.Namespace) -> None:
    """llama.cpp used directly, and its own HTTP server at `address`; its defaults but for what is measured."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(Path(arguments.model) / artifacts.MODEL_FILE)
    params.n_parallel, params.n_ctx, params.port = STREAMS, STREAMS * CONTEXT, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(json.dumps({"address": server.listening_address}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        times: list[float] = []
        body = {"prompt": order["prompt"], "max_tokens": order["tokens"], "temperature": 0, "stream": True}
        server.handle_completions(
            json.dumps(body | {"ignore_eos": True}), lambda _, t=times: t.append(time.perf_counter())
        )
        print(json.dumps({"rate": (order["tokens"] - 1) / (times[order["tokens"] - 1] - times[0])}), flush=True)


def transformers(arguments: argparse.Namespace) -> None:
    """transformers' generate, with its cache."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        prompt, count = torch.tensor([order["prompt"]]), order["tokens"]
        with torch.inference_mode():
            began = time.perf_counter()
            model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=1)
            first = time.perf_counter()
            limits = {"min_new_tokens": count, "max_new_tokens": count}
            model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, **limits)
        seconds = time.perf_counter() - first - (first - began)
        print(json.dumps({"rate": (count - 1) / seconds}), flush=True)


class Prompts:
    """Prompts of random tokens: no two share a beginning, so nothing comes out of a cache."""

    def __init__(self, vocabulary: int) -> None:
        self._random = random.Random(7)
        self._vocabulary = vocabulary

    def next(self) -> list[int]:
        return [self._random.randrange(100, self._vocabulary) for _ in range(PROMPT_TOKENS)]


class Finery:
    """Requests to our server."""

    def __init__(self, client: InferenceClient, eos: tuple[int, ...]) -> None:
        self._client = client
        self.overheads: list[float] = []
        """Of each request: time to its first token here, less the engine's own share of it."""
        self._endless = dict.fromkeys((0, *eos), -100.0)

    async def __call__(self, prompt: list[int], tokens: int, adapter: str | None = None) -> list[float]:
        """When each token came."""
        request = GenerateRequest(
            prompt_tokens=prompt, adapter=adapter, max_tokens=tokens, temperature=0.0, logit_bias=self._endless
        )
        times: list[float] = []
        asked = time.perf_counter()
        async for part in self._client.generate(request):
            if isinstance(part, Delta):
                times += [time.perf_counter()] * len(part.tokens)
            else:
                self.overheads.append(times[0] - asked - part.engine_seconds - part.queue_seconds)
        assert len(times) == tokens, f"{len(times)} tokens instead of {tokens}"
        return times


class LlamaServer:
    """Requests to llama.cpp's own server."""

    def __init__(self, address: str) -> None:
        self._http = httpx.AsyncClient(base_url=address, timeout=None, limits=httpx.Limits(max_keepalive_connections=0))

    async def __call__(self, prompt: list[int], tokens: int, adapter: str | None = None) -> list[float]:
        body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "stream": True, "ignore_eos": True}
        times: list[float] = []
        async with self._http.stream("POST", "/completion", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {") and '"stop":false' in line:
                    times.append(time.perf_counter())
        return times


class Plane:
    """Requests to a deployment of a whole `finery serve`, by OpenAI's API."""

    def __init__(self, arguments: argparse.Namespace, home: Path) -> None:
        model = Path(arguments.model)
        self._home = home
        self._endless = {str(token): -100 for token in (0, *sources.load(model).eos_token_ids)}
        environment = {"FINERY_MODELS": str(model.parent), "FINERY_INFERENCE_CONTEXT": str(CONTEXT)}
        command = [sys.executable, "-m", "finery.cli", "serve", "--home", str(home), "--port", "0"]
        self._process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
        while not (home / "server.json").exists():
            time.sleep(0.05)
        url = json.loads((home / "server.json").read_text())["url"]
        key = (home / "admin.key").read_text().strip()
        self._wire = Wire(server="finery serve", key=key, port=int(url.rpartition(":")[2]))
        self._http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60)

    def deploy(self, model: str) -> None:
        """Without the content filter, whose cost is told apart."""
        body = {"name": "bench", "model": model, "policy": "off", "sku": {"capacity": 1_000_000}}
        self._http.post("/finery/v1/deployments", json=body).raise_for_status()
        self._wait()

    def switch_filter_on(self) -> None:
        """All that the default policy looks for; annotated only, for random texts would be cut off now and then."""
        policy = self._http.get("/finery/v1/policies/default").raise_for_status().json()
        looked_for = [one | {"blocking": False} for one in policy["content_filters"]]
        self._http.put("/finery/v1/policies/bench", json={"content_filters": looked_for}).raise_for_status()
        self._http.patch("/finery/v1/deployments/bench", json={"policy": "bench"}).raise_for_status()
        self._wait()

    def _wait(self) -> None:
        while (status := self._http.get("/finery/v1/deployments/bench").json()["status"]) in ("Creating", "Updating"):
            time.sleep(0.1)
        assert status == "Succeeded", status

    async def __call__(self, prompt: list[int], tokens: int, adapter: str | None = None) -> list[float]:
        """When each event came. Raises Unavailable where the answer is an error or broken off."""
        body = {"model": "bench", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        times: list[float] = []
        ended = False
        async with (
            aclosing(self._wire.stream("POST", "/v1/completions", body | {"logit_bias": self._endless})) as stream,
            aclosing(lines_of(stream)) as lines,
        ):
            async for line in lines:
                if line.startswith(b'data: {"id"'):
                    times.append(time.perf_counter())
                ended |= b'"finish_reason":"length"' in line
        if not ended:
            raise Unavailable("no whole answer")
        return times

    def kill_inference_server(self) -> None:
        [pid_file] = self._home.glob("inference/*/server.pid")
        os.kill(json.loads(pid_file.read_text())["pid"], signal.SIGKILL)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


Ask = Callable[..., Awaitable[list[float]]]


async def flood(ask: Ask, prompts: Prompts, *, clients: int, requests: int, tokens: int, adapters: list[Any]) -> Any:
    """Closed loop: (tokens a second in all, times to the first token)."""
    left = iter(range(requests))
    firsts: list[float] = []

    async def client() -> None:
        for number in left:
            asked = time.perf_counter()
            times = await ask(prompts.next(), tokens, adapters[number % len(adapters)])
            firsts.append(times[0] - asked)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return requests * tokens / (time.perf_counter() - began), firsts


def make_adapters(arguments: argparse.Namespace, folder: Path, count: int, rank: int) -> dict[str, str]:
    """Random adapters on all linear layers, small enough that the model still speaks."""
    layers = linear_layers(sources.load(Path(arguments.model)).config)
    targets = tuple(sorted({name.rpartition(".")[2] for name in layers}))
    generator = np.random.default_rng(3)
    made = {}
    for number in range(count):
        place = folder / f"rank{rank}-{number}"
        place.mkdir()
        tensors = {}
        for name, (rows, columns) in layers.items():
            a, b = generator.standard_normal((rank, columns)), generator.standard_normal((rows, rank))
            tensors[f"base_model.model.{name}.lora_A.weight"] = (a * 0.02).astype(np.float32)
            tensors[f"base_model.model.{name}.lora_B.weight"] = (b * 0.01).astype(np.float32)
        write_adapter(
            place, AdapterConfig(base_model="benchmark", rank=rank, alpha=2.0 * rank, targets=targets), tensors
        )
        made[f"adapter-{number}"] = str(place)
    return made


async def single(arguments: argparse.Namespace, ask: Finery, prompts: Prompts, peer: Peer) -> Figures:
    other = Peer("transformers", arguments)
    rates: dict[str, list[float]] = {"finery": [], "llamacpp": [], "transformers": []}
    for _ in range(arguments.rounds):
        times = await ask(prompts.next(), arguments.tokens)
        rates["finery"].append((arguments.tokens - 1) / (times[-1] - times[0]))
        order = {"prompt": prompts.next(), "tokens": arguments.tokens}
        rates["llamacpp"].append((await asyncio.to_thread(peer.ask, **order))["rate"])
        rates["transformers"].append((await asyncio.to_thread(other.ask, **order | {"tokens": 24}))["rate"])
    other.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    return {f"single_{name}_tokens_per_second": rate for name, rate in middle.items()} | {
        "single_over_llamacpp": middle["finery"] / middle["llamacpp"],
        "single_over_transformers": middle["finery"] / middle["transformers"],
    }


async def parallel(arguments: argparse.Namespace, ask: Finery, prompts: Prompts, peer: Peer) -> Figures:
    server = LlamaServer(peer.hello["address"])
    rates: dict[str, list[float]] = {"finery": [], "llamacpp_server": []}
    for _ in range(arguments.rounds):
        for name, asked in (("finery", ask), ("llamacpp_server", server)):
            rate, _ = await flood(
                asked, prompts, clients=STREAMS, requests=2 * STREAMS, tokens=arguments.tokens, adapters=[None]
            )
            rates[name].append(rate)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    return {f"parallel_{name}_tokens_per_second": rate for name, rate in middle.items()} | {
        "parallel_over_llamacpp_server": middle["finery"] / middle["llamacpp_server"]
    }


async def latency(arguments: argparse.Namespace, ask: Finery, prompts: Prompts, peer: Peer) -> Figures:
    server = LlamaServer(peer.hello["address"])
    ask.overheads.clear()
    firsts: dict[str, list[float]] = {"finery": [], "llamacpp_server": []}
    for _ in range(arguments.rounds):
        for name, asked in (("finery", ask), ("llamacpp_server", server)):
            _, seconds = await flood(asked, prompts, clients=STREAMS, requests=4 * STREAMS, tokens=16, adapters=[None])
            firsts[name] += seconds
    found = {}
    for percent in (50, 99):
        ours, theirs = (float(np.percentile(firsts[name], percent)) * 1000 for name in ("finery", "llamacpp_server"))
        overhead = float(np.percentile(ask.overheads, percent)) * 1000
        found |= {f"first_token_p{percent}_ms": ours, f"first_token_p{percent}_ms_llamacpp_server": theirs}
        found[f"first_token_overhead_p{percent}_ms"] = overhead
    return found


async def plane(arguments: argparse.Namespace, prompts: Prompts, peer: Peer, whole: Plane, name: str) -> Figures:
    """`parallel` and `latency` through the control plane; figures begin with `name`."""
    server = LlamaServer(peer.hello["address"])
    rates: dict[str, list[float]] = {"finery": [], "llamacpp_server": []}
    firsts: dict[str, list[float]] = {"finery": [], "llamacpp_server": []}
    for _ in range(arguments.rounds):
        for side, asked in (("finery", whole), ("llamacpp_server", server)):
            order = {"clients": STREAMS, "adapters": [None]}
            rate, _ = await flood(asked, prompts, requests=2 * STREAMS, tokens=arguments.tokens, **order)
            rates[side].append(rate)
            _, seconds = await flood(asked, prompts, requests=4 * STREAMS, tokens=16, **order)
            firsts[side] += seconds
    middle = {side: statistics.median(values) for side, values in rates.items()}
    found = {f"{name}_{side}_tokens_per_second": rate for side, rate in middle.items()}
    found[f"{name}_over_llamacpp_server"] = middle["finery"] / middle["llamacpp_server"]
    for percent in (50, 99):
        ours, theirs = (float(np.percentile(firsts[side], percent)) * 1000 for side in ("finery", "llamacpp_server"))
        found |= {
            f"{name}_first_token_p{percent}_ms": ours,
            f"{name}_first_token_p{percent}_ms_llamacpp_server": theirs,
        }
        found[f"{name}_first_token_overhead_p{percent}_ms"] = ours - theirs
    return found


async def recovery(prompts: Prompts, whole: Plane) -> Figures:
    """kill -9 of the inference server under 8 clients: what failed, and how long until it answers again."""
    answers: list[tuple[float, list[float]]] = []
    failures: list[Exception] = []

    async def client() -> None:
        while True:
            asked = time.perf_counter()
            try:
                answers.append((asked, await whole(prompts.next(), 16)))
            except Unavailable as error:
                failures.append(error)

    clients = [asyncio.create_task(client()) for _ in range(STREAMS)]
    await asyncio.sleep(3)
    whole.kill_inference_server()
    killed = time.perf_counter()
    while not (after := [times for asked, times in answers if asked > killed]):
        await asyncio.sleep(0.01)
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return {
        "recovery_seconds_to_a_token": min(times[0] for times in after) - killed,
        "recovery_seconds_to_an_answer": min(times[-1] for times in after) - killed,
        "recovery_failed_requests": len(failures),
    }


async def adapters(
    arguments: argparse.Namespace, asks: dict[str, Finery], prompts: Prompts, names: list[str]
) -> Figures:
    """For each engine: all clients on one adapter, then spread over all."""
    found = {}
    for clients in (STREAMS, 5 * STREAMS):
        rates: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for engine, ask in asks.items():
                for name, chosen in (("one", names[:1]), ("spread", names)):
                    requests = max(2 * STREAMS, clients)
                    order = random.Random(5).sample([chosen[i % len(chosen)] for i in range(requests)], requests)
                    rate, _ = await flood(
                        ask, prompts, clients=clients, requests=requests, tokens=arguments.tokens // 2, adapters=order
                    )
                    rates.setdefault(f"{engine}_{name}", []).append(rate)
        middle = {name: statistics.median(values) for name, values in rates.items()}
        found |= {f"adapters_{clients}_clients_{name}_tokens_per_second": rate for name, rate in middle.items()}
        for engine in asks:
            ratio = middle[f"{engine}_spread"] / middle[f"{engine}_one"]
            found[f"adapters_{clients}_clients_{engine}_spread_over_one"] = ratio
        best = max(middle[f"{engine}_spread"] for engine in asks) / max(middle[f"{engine}_one"] for engine in asks)
        found[f"adapters_{clients}_clients_best_spread_over_best_one"] = best
    return found


async def many(arguments: argparse.Namespace, folder: Path) -> Figures:
    """200 adapters registered, all asked once: failures, and memory beside a server with none."""
    model = sources.load(Path(arguments.model))
    made = make_adapters(arguments, folder, 200, rank=4)
    files = sum(artifacts.adapter_gguf(model.folder, Path(place)).stat().st_size for place in made.values())
    memory = {}
    failures = 0
    for name, loaded in (("none", {}), ("all", made)):
        config = ServerConfig(
            model_folder=arguments.model,
            adapters=loaded,
            slots=STREAMS,
            threads=arguments.threads,
            context_tokens=CONTEXT,
        )
        process = InferenceProcess.start(folder / f"many-{name}", config)
        async with await process.wait_ready() as client:
            ask, prompts = Finery(client, model.eos_token_ids), Prompts(model.config["vocab_size"])
            asked = [ask(prompts.next(), 4, adapter) for adapter in (loaded or {None: ""})]
            failures += sum(isinstance(one, Exception) for one in await asyncio.gather(*asked, return_exceptions=True))
            memory[name] = process.resident_bytes
        await process.stop()
    grown = memory["all"] - memory["none"]
    return {"many_adapters": len(made), "many_failures": failures, "many_memory_over_files": grown / files}


def configuration(arguments: argparse.Namespace, loaded: dict[str, str], engine: str = "llamacpp") -> ServerConfig:
    return ServerConfig(
        model_folder=arguments.model,
        engine=engine,
        adapters=loaded,
        slots=STREAMS,
        threads=arguments.threads,
        context_tokens=CONTEXT,
    )


async def compare_engines(arguments: argparse.Namespace, folder: Path, made: dict[str, str]) -> Figures:
    """`adapters` on llama.cpp and on torch."""
    model = sources.load(Path(arguments.model))
    processes = {
        engine: InferenceProcess.start(folder / engine, configuration(arguments, made, engine))
        for engine in ("llamacpp", "torch")
    }
    try:
        asks = {
            engine: Finery(await process.wait_ready(), model.eos_token_ids) for engine, process in processes.items()
        }
        found = {f"adapters_{engine}_resident_mb": one.resident_bytes / 1e6 for engine, one in processes.items()}
        return found | await adapters(arguments, asks, Prompts(model.config["vocab_size"]), list(made))
    finally:
        for process in processes.values():
            await process.stop()


async def through_the_plane(arguments: argparse.Namespace, folder: Path, peer: Peer) -> Figures:
    """`plane` and `recovery`."""
    whole = Plane(arguments, folder / "home")
    try:
        whole.deploy(Path(arguments.model).name)
        prompts = Prompts(sources.load(Path(arguments.model)).config["vocab_size"])
        figures: Figures = {}
        if "plane" in arguments.parts:
            figures |= await plane(arguments, prompts, peer, whole, "plane")
        if "recovery" in arguments.parts:
            figures |= await recovery(prompts, whole)
        if "plane" in arguments.parts:
            whole.switch_filter_on()
            figures |= await plane(arguments, prompts, peer, whole, "filtered")
        return figures
    finally:
        whole.close()


async def measure(arguments: argparse.Namespace, folder: Path) -> Figures:
    model = sources.load(Path(arguments.model))
    artifacts.model_gguf(model.folder)
    made = make_adapters(arguments, folder, 20, rank=16) if "adapters" in arguments.parts else {}
    config = configuration(arguments, {})
    figures: Figures = {}
    peer = Peer("llamacpp", arguments)
    began = time.perf_counter()
    process = InferenceProcess.start(folder / "server", config)
    try:
        async with await process.wait_ready() as client:
            figures["start_seconds"] = time.perf_counter() - began
            figures["resident_mb"] = process.resident_bytes / 1e6
            ask, prompts = Finery(client, model.eos_token_ids), Prompts(model.config["vocab_size"])
            for part in (single, parallel, latency):
                if part.__name__ in arguments.parts:
                    figures |= await part(arguments, ask, prompts, peer)
                    show(figures)
        if {"plane", "recovery"} & set(arguments.parts):
            figures |= await through_the_plane(arguments, folder, peer)
            show(figures)
        if "adapters" in arguments.parts:
            figures |= await compare_engines(arguments, folder, made)
            show(figures)
    finally:
        await process.stop()
        peer.close()
    if "many" in arguments.parts:
        figures |= await many(arguments, folder)
    return figures


def show(figures: Figures) -> None:
    print("\n".join(f"{name:48} {value:10.3f}" for name, value in figures.items()), end="\n\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default=str(Path.home() / ".finery/models/smollm2-135m-instruct"), help="a base model"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:6], help="what to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--role", choices=("llamacpp", "transformers"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role is not None:
        {"llamacpp": llamacpp, "transformers": transformers}[arguments.role](arguments)
        return
    with tempfile.TemporaryDirectory(prefix="finery-bench-") as folder:
        figures = asyncio.run(measure(arguments, Path(folder)))
    show(figures)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
