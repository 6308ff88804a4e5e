"""Do the served model and the trainer's model answer the same? A certificate with the numbers, for people and programs.

    python -m finery.serving.parity MODEL_FOLDER PROMPTS.jsonl [--adapter FOLDER] [--out certificate.json]

The served model answers greedily, as any caller would be answered, through its own chat template, quantisation and
adapter. The reference (transformers in fp32, the adapter beside the weights, in a child process) then reads the same
questions, cut into tokens by the base model's template, followed by the served answers, and says at every place
what it would have chosen. It starts and judges nothing else; whether a failed certificate stops a deployment is for
the control plane to decide.
"""

import argparse
import asyncio
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finery.core.errors import FineryError, InvalidRequest, Unavailable
from finery.serving.config import ServerConfig
from finery.serving.process import InferenceProcess
from finery.serving.protocol import AnswerToken, Delta, Finish, GenerateRequest, raise_error
from finery.serving.remote import InferenceClient

TOP = 20
"""Alternatives compared at each place."""

REFERENCE_MODULE = "finery.serving.parity_reference"

Question = dict[str, Any]
"""What is asked, by fields of `GenerateRequest`: `messages` and perhaps `tools`, or `prompt`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a certificate must reach to pass."""

    agreement: float = 0.995
    """Share of places where both choose the same token, ties apart."""
    mean_kl: float = 0.02
    """Nats; f16 weights are near 0.0001, 4-bit ones near 0.05."""
    tie: float = 0.1
    """Two tokens are a tie where the reference's log-probabilities differ by less than this many nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """The first place where served model and reference part, ties apart."""

    conversation: int
    place: int
    """Tokens of the answer before it; -1: the prompts' tokens differ already."""
    served: str
    reference: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What was compared and how it came out."""

    passed: bool
    conversations: int
    places: int
    """Tokens compared, each answer's end counted as one."""
    prompts_equal: float
    """Share of conversations that both sides cut into the same tokens."""
    answers_equal: float
    """Share of greedy answers that are the same, token by token."""
    top1_agreement: float
    """Share of places where both choose the same token."""
    agreement_but_ties: float
    """As `top1_agreement`, a tie in the reference counted as agreement."""
    mean_kl: float
    """Mean over places of KL(reference ‖ served), in nats, over the reference's 20 likeliest tokens and the rest."""
    max_kl: float
    first_divergence: Divergence | None
    limits: Limits
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    prompt: list[int]
    tokens: list[AnswerToken]
    ended: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """One place of one answer, as both see it."""

    conversation: int
    place: int
    same: bool
    tie: bool
    kl: float | None
    served: str
    reference: str


async def certify(
    client: InferenceClient,
    *,
    adapter: str | None,
    model_folder: Path,
    adapter_folder: Path | None,
    questions: Sequence[Question],
    max_tokens: int = 32,
    limits: Limits | None = None,
) -> Certificate:
    """Compare what `client` serves under `adapter` with the base in `model_folder` and the adapter in `adapter_folder`.

    Raises Unavailable when either side fails, InvalidRequest without questions.
    """
    if not questions:
        raise InvalidRequest("A parity certificate needs at least one question.")
    began = time.monotonic()
    answers = [await _ask(client, adapter, question, max_tokens) for question in questions]
    told = await ask_reference(
        {
            "model_folder": str(model_folder),
            "adapter_folder": None if adapter_folder is None else str(adapter_folder),
            "top": TOP,
            "cases": [
                {"question": question, "answer": [token.id for token in answer.tokens]}
                for question, answer in zip(questions, answers, strict=True)
            ],
        }
    )
    if "error" in told:
        raise_error(told["error"])
    return _judge(answers, told["cases"], limits or Limits(), time.monotonic() - began)


def question_of(row: dict[str, Any]) -> Question | None:
    """What a row of training data asks, its last answer left out; None where that is nothing."""
    given = row.get("input") if "input" in row else row
    if not isinstance(given, dict):
        return None
    messages = list(given.get("messages") or [])
    while messages and messages[-1].get("role") == "assistant":
        messages.pop()
    if messages:
        return {"messages": messages, "tools": given.get("tools")}
    return {"prompt": given["prompt"]} if given.get("prompt") else None


async def _ask(client: InferenceClient, adapter: str | None, question: Question, max_tokens: int) -> _Answer:
    request = GenerateRequest(**question, adapter=adapter, temperature=0.0, max_tokens=max_tokens, logprobs=TOP)
    tokens: list[AnswerToken] = []
    ended = False
    async for part in client.generate(request):
        if isinstance(part, Delta):
            tokens += part.tokens
        elif isinstance(part, Finish):
            ended = part.reason == "stop"
    return _Answer(prompt=await client.tokenize(request), tokens=tokens, ended=ended)


async def ask_reference(order: dict[str, Any]) -> dict[str, Any]:
    """What `parity_reference` answers to an order; in a child process, so that no torch comes in here."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        REFERENCE_MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await child.communicate(json.dumps(order).encode())
    except BaseException:
        if child.returncode is None:
            child.kill()
        raise
    try:
        return dict(json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError) as error:
        tail = errors.decode(errors="replace")[-2000:]
        raise Unavailable(f"The reference model ended with status {child.returncode}: {tail}") from error


def _judge(answers: Sequence[_Answer], told: Sequence[dict[str, Any]], limits: Limits, seconds: float) -> Certificate:
    places = [
        place
        for number, (answer, case) in enumerate(zip(answers, told, strict=True))
        for place in _places(number, answer, case, limits)
    ]
    prompts = [answer.prompt == case["prompt"] for answer, case in zip(answers, told, strict=True)]
    differing = {place.conversation for place in places if not place.same}
    kls = [place.kl for place in places if place.kl is not None]
    agreement = _share([place.same or place.tie for place in places])
    mean_kl = math.fsum(kls) / len(kls) if kls else 0.0
    return Certificate(
        passed=all(prompts) and agreement >= limits.agreement and mean_kl <= limits.mean_kl,
        conversations=len(answers),
        places=len(places),
        prompts_equal=_share(prompts),
        answers_equal=1 - len(differing) / len(answers),
        top1_agreement=_share([place.same for place in places]),
        agreement_but_ties=agreement,
        mean_kl=mean_kl,
        max_kl=max(kls, default=0.0),
        first_divergence=_first_divergence(prompts, places),
        limits=limits,
        seconds=seconds,
    )


def _places(number: int, answer: _Answer, case: dict[str, Any], limits: Limits) -> list[_Place]:
    """One for each token of the answer, and one for its end where it ended by itself."""
    found = []
    for place, (token, expected) in enumerate(zip(answer.tokens, case["places"], strict=False)):
        best = expected["top"][0]
        found.append(
            _Place(
                conversation=number,
                place=place,
                same=token.id == best["id"],
                tie=best["logprob"] - expected["logprob"] < limits.tie,
                kl=_kl(expected["top"], token),
                served=token.text,
                reference=best["text"],
            )
        )
    if answer.ended:
        last = case["places"][len(answer.tokens)]
        gap = last["top"][0]["logprob"] - last["end_logprob"]
        found.append(
            _Place(
                conversation=number,
                place=len(answer.tokens),
                same=gap == 0.0,
                tie=gap < limits.tie,
                kl=None,
                served="(end)",
                reference=last["top"][0]["text"],
            )
        )
    return found


def _kl(reference: list[dict[str, Any]], served: AnswerToken) -> float:
    """KL over the reference's likeliest tokens and all others as one.

    A token that the served model doesn't list among its own likeliest is taken at the least of those: an upper bound of
    what it can be, so that the result is a lower bound.
    """
    known = {top.id: top.logprob for top in served.top_logprobs}
    least = min(known.values())
    p = [math.exp(top["logprob"]) for top in reference]
    q = [math.exp(known.get(top["id"], least)) for top in reference]
    rest_p, rest_q = max(1e-9, 1 - math.fsum(p)), max(1e-9, 1 - math.fsum(q))
    terms = [a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0]
    return max(0.0, math.fsum([*terms, rest_p * math.log(rest_p / rest_q)]))


def _first_divergence(prompts: Sequence[bool], places: Sequence[_Place]) -> Divergence | None:
    found = [
        Divergence(conversation=number, place=-1, served="(other prompt tokens)", reference="(prompt tokens)")
        for number, same in enumerate(prompts)
        if not same
    ]
    found += [
        Divergence(conversation=p.conversation, place=p.place, served=p.served, reference=p.reference)
        for p in places
        if not (p.same or p.tie)
    ]
    return min(found, key=lambda one: (one.conversation, one.place), default=None)


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 1.0


async def _certify_folder(arguments: argparse.Namespace) -> Certificate:
    lines = Path(arguments.prompts).read_text(encoding="utf-8").splitlines()
    rows = (json.loads(line) for line in lines if line.strip())
    questions = [question for row in rows if (question := question_of(row))][: arguments.limit]
    adapters = {} if arguments.adapter is None else {"adapter": arguments.adapter}
    config = ServerConfig(model_folder=arguments.model, engine=arguments.engine, adapters=adapters)
    with tempfile.TemporaryDirectory() as folder:
        process = InferenceProcess.start(Path(folder), config)
        try:
            async with await process.wait_ready() as client:
                return await certify(
                    client,
                    adapter="adapter" if adapters else None,
                    model_folder=Path(arguments.model),
                    adapter_folder=None if arguments.adapter is None else Path(arguments.adapter),
                    questions=questions,
                    max_tokens=arguments.max_tokens,
                )
        finally:
            await process.stop()


def main() -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m finery.serving.parity")
    parser.add_argument("model", help="folder of the base model")
    parser.add_argument("prompts", help="JSONL file of conversations")
    parser.add_argument("--adapter", help="folder of an adapter in PEFT's format")
    parser.add_argument("--engine", default="llamacpp")
    parser.add_argument("--limit", type=int, default=100, help="conversations to compare (default 100)")
    parser.add_argument("--max-tokens", type=int, default=32, help="tokens of each answer (default 32)")
    parser.add_argument("--out", help="file for the certificate; otherwise it is printed")
    arguments = parser.parse_args()
    try:
        certificate = asyncio.run(_certify_folder(arguments))
    except FineryError as error:
        sys.exit(error.message)
    text = json.dumps(certificate.to_json(), indent=1)
    if arguments.out is None:
        print(text)  # noqa: T201 - a command's answer
    else:
        Path(arguments.out).write_text(text, encoding="utf-8")
    sys.exit(0 if certificate.passed else 1)


if __name__ == "__main__":
    main()
