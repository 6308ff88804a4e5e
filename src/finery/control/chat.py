"""A question to a model: by the name of a deployment, or of a model that needs none."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import TypeVar

from finery.control import budgets, models, providers
from finery.control.admission import estimate
from finery.control.models import ResolvedModel
from finery.control.plane import ControlPlane
from finery.control.tools import CallPart, CallReader, Plan
from finery.core.access import Caller
from finery.core.deployments import DeploymentStatus
from finery.core.errors import InvalidRequest, NotFound, Unavailable
from finery.core.tenancy import Provider
from finery.serving.protocol import AnswerToken, Delta, Finish, GenerateRequest
from finery.serving.remote import InferenceClient
from finery.storage import deployments

T = TypeVar("T")

_DEATH_SECONDS = 0.1
"""A connection ends a moment before the process that held it is known to be dead."""

MAX_ANSWER_TOKENS = 131_072
"""Most tokens that one request may have written, over all its answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A further piece of an answer: text, or a piece of a tool call."""

    text: str = ""
    tokens: tuple[AnswerToken, ...] = ()
    call: CallPart | None = None


async def generate(
    plane: ControlPlane, caller: Caller, name: str, request: GenerateRequest, *, stopped_by: Sequence[str] = ()
) -> AsyncGenerator[Delta | Finish, None]:
    """One answer of a model, as it is written.

    Whoever stops it for what it says puts the reasons into `stopped_by` before closing it, so that they are counted.

    A deployment's name comes first; any other model of the project answers too, its server started when first asked.

    Raises:
        UnknownModel: no deployment and no model of that name.
        RateLimited: over the deployment's limits, or too many wait.
        Unavailable: the deployment isn't ready, or the inference server died in the middle of the answer.
    """
    model = await asyncio.to_thread(find, plane, caller, name)
    with (
        plane.traffic.watch(caller.project.id, name, request) as watch,
        plane.admission.enter(caller.project.id, name, model.deployment, estimate(request)) as meter,
    ):
        try:
            async with aclosing(_generate(plane, caller, model, request)) as pieces:
                async for piece in pieces:
                    watch.see(piece)
                    meter.see(piece)
                    yield piece
        finally:
            for reason in stopped_by:
                watch.filtered("completion", reason)


async def _generate(
    plane: ControlPlane, caller: Caller, model: ResolvedModel, request: GenerateRequest
) -> AsyncGenerator[Delta | Finish, None]:
    """The answer of whichever server has the model; one that dies before its first piece is asked again, once."""
    began, last = False, False
    while True:
        async with use(plane, model) as (client, adapter):
            asked = dataclasses.replace(request, adapter=adapter, cache_scope=caller.project.id)
            try:
                # Closed here and now, not when the garbage is collected: a client that went away frees its slot.
                async with aclosing(client.generate(asked)) as pieces:
                    async for piece in pieces:
                        began = True
                        yield piece
                return
            except Unavailable:
                if began or last:
                    raise
        last = True
        await asyncio.sleep(_DEATH_SECONDS)


def use(plane: ControlPlane, model: ResolvedModel) -> AbstractAsyncContextManager[tuple[InferenceClient, str | None]]:
    """A server that has the model, by its deployment's engine and replicas. Raises as `InferencePool.use`."""
    deployment = model.deployment
    if deployment is None:
        return plane.inference.use(model.base, model.tuned)
    return plane.inference.use(model.base, model.tuned, engine=deployment.engine, replicas=deployment.replicas)


async def answer(
    plane: ControlPlane,
    caller: Caller,
    name: str,
    request: GenerateRequest,
    plan: Plan,
    *,
    stopped_by: Sequence[str] = (),
) -> AsyncGenerator[Part | Finish, None]:
    """One answer with its tool calls told apart from its text. Raises as `generate`."""
    request = dataclasses.replace(request, tools=plan.tools, json_schema=plan.json_schema)
    reader = CallReader(plan=plan)
    waiting: tuple[AnswerToken, ...] = ()
    async with aclosing(generate(plane, caller, name, request, stopped_by=stopped_by)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Finish):
                for part in _parts(reader.finish(), waiting):
                    yield part
                called = reader.calls and piece.reason == "stop" and plan.calls != "named"
                yield dataclasses.replace(piece, reason="tool_calls") if called else piece
                continue
            waiting += piece.tokens
            parts = _parts(reader.push(piece.text), waiting)
            if parts or plan.calls == "none":
                waiting = ()
            for part in parts or ([Part(tokens=piece.tokens)] if plan.calls == "none" else []):
                yield part


async def side_by_side(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """What several answers say, as it comes, each piece with the number of its answer."""
    queue: asyncio.Queue[tuple[int, T] | BaseException | None] = asyncio.Queue(maxsize=64)

    async def pump(index: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(stream):
                async for piece in stream:
                    await queue.put((index, piece))
        except Exception as error:  # raised again where the pieces are read
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        left = len(tasks)
        while left:
            piece = await queue.get()
            if piece is None:
                left -= 1
            elif isinstance(piece, BaseException):
                raise piece
            else:
                yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_size(plane: ControlPlane, answers: int, max_tokens: int | None) -> None:
    """Refuse a request that would keep a server busy for hours.

    Raises:
        InvalidRequest: more answers × tokens than one request may have.
    """
    each = min(max_tokens or plane.settings.inference_context, plane.settings.inference_context)
    if answers * each > MAX_ANSWER_TOKENS and answers > 1:
        raise InvalidRequest(
            f"{answers} answers of up to {each} tokens are {answers * each} tokens; one request may ask for "
            f"{MAX_ANSWER_TOKENS}. Ask for fewer answers, or give a smaller max_tokens.",
            param="n",
        )


def find(plane: ControlPlane, caller: Caller, name: str) -> ResolvedModel:
    """The model that answers under a name."""
    providers.require(plane, caller, Provider.INFERENCE)
    budgets.require_money(plane, caller.project)
    with plane.database.read() as connection:
        deployment = deployments.get(connection, caller.project.id, name)
    if deployment is None:
        return models.resolve(plane, caller, name)
    if deployment.status == DeploymentStatus.DELETING:
        raise NotFound(f"The deployment '{name}' is being deleted.", code="DeploymentNotFound")
    if deployment.status != DeploymentStatus.SUCCEEDED:
        details = f" ({deployment.status_details})" if deployment.status_details else ""
        raise Unavailable(
            f"The deployment '{name}' is {deployment.status}, and answers only when it is Succeeded.{details}",
            code="deployment_not_ready",
        )
    return dataclasses.replace(models.resolve(plane, caller, deployment.model), deployment=deployment)


def _parts(found: list[str | CallPart], tokens: tuple[AnswerToken, ...]) -> list[Part]:
    parts = [Part(text=item) if isinstance(item, str) else Part(call=item) for item in found]
    if parts:
        parts[0] = dataclasses.replace(parts[0], tokens=tokens)
    return parts
