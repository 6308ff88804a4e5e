"""The inference server: one base model and its adapters behind HTTP on loopback.

    FINERY_INFERENCE_TOKEN=… python -m finery.serving.server FOLDER

FOLDER/server.json (`config.ServerConfig`) says what to serve. When it can serve, FOLDER/ready.json holds the port and
the process id; when it can't, FOLDER/failed.json holds the error. It ends when its standard input is closed. It knows
no database and no accounts: who may ask for which model is decided by its caller, the control plane.
"""

import asyncio
import json
import os
import secrets
import socket
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from finery.core import errors
from finery.modeling import sources
from finery.serving.answers import Answers
from finery.serving.config import FAILED_FILE, READY_FILE, ServerConfig, write_json
from finery.serving.engines import make_engine
from finery.serving.engines.base import Engine
from finery.serving.lifeline import die_with_input
from finery.serving.neighbours import is_crowded, waiting_environment
from finery.serving.protocol import (
    TOKEN_VARIABLE,
    Delta,
    Finish,
    GenerateRequest,
    error_json,
    error_line,
    score_json,
)

_STATUS = {
    errors.UnknownModel: 404,
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.CorruptArtifact: 422,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
}


def make_app(engine: Engine, answers: Answers, token: str) -> Starlette:
    """The HTTP side of a loaded engine; every route asks for the bearer token."""
    routes = Routes(engine, answers)
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/adapters", routes.list_adapters),
            Route("/adapters/{name:path}", routes.put_adapter, methods=["PUT"]),
            Route("/adapters/{name:path}", routes.delete_adapter, methods=["DELETE"]),
            Route("/generate", routes.generate, methods=["POST"]),
            Route("/tokenize", routes.tokenize, methods=["POST"]),
            Route("/detokenize", routes.detokenize, methods=["POST"]),
            Route("/score", routes.score, methods=["POST"]),
            Route("/embed", routes.embed, methods=["POST"]),
            Route("/metrics", routes.metrics),
        ],
        middleware=[Middleware(BearerOnly, token=token)],
        exception_handlers={errors.FineryError: _error_response},
    )


class Routes:
    """One method for each route."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self._engine = engine
        self._answers = answers

    async def health(self, request: Request) -> Response:
        able = self._engine.capabilities
        return JSONResponse(
            {
                "status": "ok",
                "engine": able.engine,
                "context_tokens": able.context_tokens,
                "slots": able.slots,
                "adapters": sorted(self._engine.adapters()),
            }
        )

    async def list_adapters(self, request: Request) -> Response:
        return JSONResponse({name: str(folder) for name, folder in sorted(self._engine.adapters().items())})

    async def put_adapter(self, request: Request) -> Response:
        body = await _json(request)
        await self._engine.add_adapter(request.path_params["name"], Path(_field(body, "folder", str)))
        return JSONResponse({})

    async def delete_adapter(self, request: Request) -> Response:
        await self._engine.remove_adapter(request.path_params["name"])
        return JSONResponse({})

    async def generate(self, request: Request) -> Response:
        return AnswerStream(self._answers.answer(GenerateRequest.from_json(await _json(request))))

    async def tokenize(self, request: Request) -> Response:
        asked = GenerateRequest.from_json(await _json(request))
        asked.check()
        return JSONResponse({"tokens": self._answers.encode(asked)})

    async def detokenize(self, request: Request) -> Response:
        body = await _json(request)
        return JSONResponse({"text": self._answers.detokenize(_field(body, "tokens", list))})

    async def score(self, request: Request) -> Response:
        body = await _json(request)
        scored = await self._answers.score(
            _field(body, "tokens", list),
            adapter=body.get("adapter"),
            top=body.get("top", 0),
            start=body.get("start", 1),
        )
        return JSONResponse(score_json(scored))

    async def embed(self, request: Request) -> Response:
        body = await _json(request)
        vector = await self._engine.embed(_field(body, "tokens", list), adapter=body.get("adapter"))
        return JSONResponse({"embedding": vector})

    async def metrics(self, request: Request) -> Response:
        values = await self._engine.metrics()
        return PlainTextResponse("".join(f"finery_inference_{name} {value:g}\n" for name, value in values.items()))


class AnswerStream(Response):
    """An answer as NDJSON. A caller who goes away ends the generation, also while it still waits for a place.

    Generation doesn't wait for the caller: one who reads slowly must not hold up those whose turn is next.
    """

    def __init__(self, parts: AsyncGenerator[Delta | Finish, None]) -> None:
        self.status_code = 200
        self.background = None
        self._parts = parts
        self._lines: asyncio.Queue[str | errors.FineryError | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        generating = asyncio.create_task(self._generate())
        writing = asyncio.create_task(self._write(send))
        leaving = asyncio.create_task(_until_disconnected(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (generating, writing, leaving):
                task.cancel()
            await asyncio.gather(generating, writing, leaving, return_exceptions=True)

    async def _generate(self) -> None:
        try:
            async with aclosing(self._parts) as parts:
                async for part in parts:
                    self._lines.put_nowait(part.line())
            self._lines.put_nowait(None)
        except errors.FineryError as error:
            self._lines.put_nowait(error)
        except Exception as error:  # told to the caller, and the traceback to the log
            traceback.print_exception(error)
            self._lines.put_nowait(errors.FineryError("The inference server failed; see its log."))

    async def _write(self, send: Send) -> None:
        line = await self._lines.get()
        if isinstance(line, errors.FineryError):
            await _start(send, _status(line), "application/json")
            await _body(send, json.dumps({"error": error_json(line)}), more=False)
            return
        await _start(send, 200, "application/x-ndjson")
        while isinstance(line, str):
            text = line
            while not self._lines.empty() and isinstance(line := self._lines.get_nowait(), str):
                text += line
            await _body(send, text, more=True)
            if isinstance(line, str):
                line = await self._lines.get()
        await _body(send, "" if line is None else error_line(line), more=False)


class BearerOnly:
    """Refuses every request without the server's token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, self._expected):
                refusal = errors.Unauthenticated("This inference server asks for its bearer token.")
                await JSONResponse({"error": error_json(refusal)}, status_code=401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def serve(folder: Path, token: str) -> None:
    """Load what FOLDER/server.json names and serve it until SIGTERM. Raises FineryError where it can't be loaded."""
    config = ServerConfig.read(folder)
    os.environ.update(
        waiting_environment(await is_crowded([], 0.15))
    )  # read by OpenMP where the engine brings it into this process
    engine = make_engine(config, folder)
    await engine.load()
    try:
        answers = Answers(engine, sources.load(Path(config.model_folder)))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        settings = uvicorn.Config(
            make_app(engine, answers, token),
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        port = listener.getsockname()[1]
        await _Announcing(settings, lambda: write_json(folder / READY_FILE, {"port": port, "pid": os.getpid()})).serve(
            sockets=[listener]
        )
    finally:
        await engine.close()


class _Announcing(uvicorn.Server):
    """uvicorn, saying when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def main() -> None:
    """Entry point; see the module's docstring."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m finery.serving.server FOLDER")
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if not token:
        sys.exit(f"{TOKEN_VARIABLE} is not set; an inference server never runs without a token.")
    folder = Path(sys.argv[1])
    die_with_input()
    try:
        asyncio.run(serve(folder, token))
    except errors.FineryError as error:
        write_json(folder / FAILED_FILE, error_json(error))
        sys.exit(error.message)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _body(send: Send, text: str, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise errors.InvalidRequest("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise errors.InvalidRequest("The body must be a JSON object.")
    return body


def _field(body: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(body.get(name), kind):
        raise errors.InvalidRequest(f"{name} must be a {kind.__name__}.", param=name)
    return body[name]


def _status(error: errors.FineryError) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


async def _error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.FineryError)
    return JSONResponse({"error": error_json(error)}, status_code=_status(error))


if __name__ == "__main__":
    main()
