"""The nouns of the API: files, jobs, models, chat, deployments, keys. Knows no httpx."""

import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from finery.core.errors import Unavailable
from finery.core.jobs import JobStatus
from finery.sdk.wire import Json, Wire, api_error

Progress = Callable[[int, int], None]
"""Called with (bytes sent so far, bytes in all)."""

SETTLED = frozenset({str(s) for s in JobStatus if s.terminal} | {str(JobStatus.PAUSED)})
"""States of a job in which nothing moves until somebody acts."""

_CHUNK_BYTES = 64 * 1024
_PATIENCE_SECONDS = 300.0
"""How long `Jobs.follow` waits for a server that went away: a restart, an update."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatDelta:
    """A piece of a streamed answer."""

    text: str
    finish_reason: str | None = None
    """stop, length, content_filter …, on the last piece."""


class Files:
    """Uploaded files."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def upload(self, path: Path, purpose: str = "fine-tune", progress: Progress | None = None) -> Json:
        """Send a file, streamed from the disk.

        Raises:
            OSError: the file can't be read.
            ApiError: the server refused it.
        """
        name = path.name.encode(errors="replace").decode()
        with _Counted(path, progress) as body:
            files: dict[str, tuple[str, IO[bytes], str]] = {"file": (name, body, "application/octet-stream")}
            return self._wire.call("POST", "/v1/files", data={"purpose": purpose}, files=files)

    def wait(self, file_id: str, *, poll_seconds: float = 0.3) -> Json:
        """The file, once the server has checked it: its status is `processed` or `error`."""
        while True:
            file = self.retrieve(file_id)
            if file.get("status") in {"processed", "error", "deleted"}:
                return file
            time.sleep(poll_seconds)

    def list(self, *, purpose: str | None = None, limit: int | None = None) -> Iterator[Json]:
        """Files, newest first."""
        return self._wire.pages("/v1/files", limit, purpose=purpose)

    def retrieve(self, file_id: str) -> Json:
        """One file."""
        return self._wire.call("GET", f"/v1/files/{_part(file_id)}")

    def report(self, file_id: str) -> Json:
        """What the check of the file found, by line."""
        return self._wire.call("GET", f"/finery/v1/files/{_part(file_id)}/report")

    def line(self, file_id: str, number: int, model: str) -> Json:
        """A row as a model sees it: `pieces` of text, and which are trained."""
        return self._wire.call("GET", f"{self._own(file_id)}/lines/{number}", params={"model": model})

    def token_report(self, file_id: str, model: str, max_tokens: int | None = None) -> Json:
        """What keeps a model from learning the rows, and their tokens."""
        asked = {"model": model} | ({"max_tokens": max_tokens} if max_tokens else {})
        return self._wire.call("GET", f"{self._own(file_id)}/token-report", params=asked)

    def quality(self, file_id: str, validation_file: str | None = None) -> Json:
        """Repeats, leaks, balance, languages, lengths, refusals, personal data and secrets."""
        asked = {"validation_file": validation_file} if validation_file else {}
        return self._wire.call("GET", f"{self._own(file_id)}/quality", params=asked)

    def clean(
        self, file_id: str, steps: Sequence[Any], *, model: str | None = None, validation_file: str | None = None
    ) -> Json:
        """A new `file` with the steps applied, and the `record` of what they did."""
        body = {"steps": [*steps], "model": model, "validation_file": validation_file}
        return self._wire.call("POST", f"{self._own(file_id)}/clean", json=body)

    def split(self, file_id: str, *, fraction: float | None = None, count: int | None = None, seed: int = 0) -> Json:
        """Two new files, `training` and `validation`, and the `record` of their rows."""
        body = {"fraction": fraction, "count": count, "seed": seed}
        return self._wire.call("POST", f"{self._own(file_id)}/split", json=body)

    def content(self, file_id: str) -> Iterator[bytes]:
        """The bytes of a file, piece by piece."""
        with self._wire.stream("GET", f"/v1/files/{_part(file_id)}/content") as response:
            yield from response.iter_bytes(_CHUNK_BYTES)

    def delete(self, file_id: str) -> Json:
        """Delete a file."""
        return self._wire.call("DELETE", f"/v1/files/{_part(file_id)}")

    def _own(self, file_id: str) -> str:
        return f"/finery/v1/files/{_part(file_id)}"


class Datasets:
    """Names under which versions of training data are kept."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def add(self, name: str, file_id: str, *, description: str = "") -> Json:
        """Put a file behind the dataset's last version; the first one makes the dataset."""
        body = {"name": name, "file_id": file_id, "description": description}
        return self._wire.call("POST", "/finery/v1/datasets", json=body)

    def list(self) -> Iterator[Json]:
        """Every dataset, by name."""
        yield from self._wire.call("GET", "/finery/v1/datasets").get("data") or []

    def retrieve(self, name: str) -> Json:
        """A dataset with its versions, newest first."""
        return self._wire.call("GET", f"/finery/v1/datasets/{_part(name)}")

    def delete(self, name: str) -> Json:
        """Forget a dataset; its files stay."""
        return self._wire.call("DELETE", f"/finery/v1/datasets/{_part(name)}")


class Jobs:
    """Fine-tuning jobs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, model: str, training_file: str, **fields: Any) -> Json:
        """Queue a job; `fields` are the other fields of the wire, those that are None are left out."""
        body = {"model": model, "training_file": training_file, **fields}
        kept = {name: value for name, value in body.items() if value is not None}
        return self._wire.call("POST", "/v1/fine_tuning/jobs", json=kept)

    def list(self, *, limit: int | None = None) -> Iterator[Json]:
        """Jobs, newest first."""
        return self._wire.pages("/v1/fine_tuning/jobs", limit)

    def retrieve(self, job_id: str) -> Json:
        """One job."""
        return self._wire.call("GET", f"/v1/fine_tuning/jobs/{_part(job_id)}")

    def cancel(self, job_id: str) -> Json:
        """Stop a job for good."""
        return self._wire.call("POST", f"/v1/fine_tuning/jobs/{_part(job_id)}/cancel")

    def pause(self, job_id: str) -> Json:
        """Stop a job at a checkpoint."""
        return self._wire.call("POST", f"/v1/fine_tuning/jobs/{_part(job_id)}/pause")

    def resume(self, job_id: str) -> Json:
        """Let a paused job go on."""
        return self._wire.call("POST", f"/v1/fine_tuning/jobs/{_part(job_id)}/resume")

    def events(self, job_id: str, *, limit: int | None = None) -> Iterator[Json]:
        """Events, newest first."""
        return self._wire.pages(f"/v1/fine_tuning/jobs/{_part(job_id)}/events", limit)

    def checkpoints(self, job_id: str, *, limit: int | None = None) -> Iterator[Json]:
        """Checkpoints, newest first."""
        return self._wire.pages(f"/v1/fine_tuning/jobs/{_part(job_id)}/checkpoints", limit)

    def follow(
        self,
        job_id: str,
        *,
        poll_seconds: float = 0.5,
        patience_seconds: float = _PATIENCE_SECONDS,
        on_outage: Callable[[Unavailable], None] | None = None,
    ) -> Iterator[Json]:
        """Every event of a job, oldest first, as they come; ends when the job is settled (`SETTLED`).

        A server that goes away is waited for: the job is not lost with it. `on_outage` is told once each time.

        Raises:
            Unavailable: no answer for `patience_seconds`.
        """
        newest: str | None = None
        deadline: float | None = None
        while True:
            try:
                # The state is read before the events, so that the last turn sees every event of a settled job.
                settled = self.retrieve(job_id)["status"] in SETTLED
                fresh = self._since(job_id, newest)
            except Unavailable as outage:
                if deadline is None:
                    deadline = time.monotonic() + patience_seconds
                    if on_outage:
                        on_outage(outage)
                if time.monotonic() >= deadline:
                    raise
                time.sleep(poll_seconds)
                continue
            deadline = None
            if fresh:
                newest = fresh[0]["id"]
                yield from reversed(fresh)
            if settled:
                return
            time.sleep(poll_seconds)

    def _since(self, job_id: str, newest: str | None) -> tuple[Json, ...]:
        return tuple(itertools.takewhile(lambda event: event["id"] != newest, self.events(job_id)))


class Models:
    """Base models on the server and tuned models of the project."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(self) -> Iterator[Json]:
        """Every model that the server can use."""
        yield from self._wire.call("GET", "/v1/models").get("data") or []

    def retrieve(self, model: str) -> Json:
        """One model."""
        return self._wire.call("GET", f"/v1/models/{_part(model)}")

    def delete(self, model: str) -> Json:
        """Delete a tuned model."""
        return self._wire.call("DELETE", f"/v1/models/{_part(model)}")


class Chat:
    """Answers of a deployment or a model."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def stream(self, model: str, messages: Sequence[Json], **options: Any) -> Iterator[ChatDelta]:
        """An answer, piece by piece; `options` are the other fields of the wire, those that are None are left out.

        Raises:
            ApiError: refused at once, or broken off by an error of the server.
        """
        kept = {name: value for name, value in options.items() if value is not None}
        body = {"model": model, "messages": list(messages), "stream": True, **kept}
        with self._wire.stream("POST", "/v1/chat/completions", json=body) as response:
            for line in response.iter_lines():
                payload = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if payload == "[DONE]":
                    return
                if payload:
                    yield from _deltas(json.loads(payload))


class Deployments:
    """Names under which models answer."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, name: str, model: str, **options: Any) -> Json:
        """Make a model ready to answer under a name; it starts in the state `Creating`.

        `options` are the other fields of a deployment (sku, policy, engine, replicas, idle_seconds, parity_override);
        those that are None are left out.
        """
        body = {"name": name, "model": model, **options}
        kept = {key: value for key, value in body.items() if value is not None}
        return self._wire.call("POST", "/finery/v1/deployments", json=kept)

    def update(self, name: str, **changes: Any) -> Json:
        """Change a deployment; it goes on as it is until the change has been proven (`wait`)."""
        return self._wire.call("PATCH", f"/finery/v1/deployments/{_part(name)}", json=changes)

    def wait(self, name: str, *, poll_seconds: float = 0.3) -> Json:
        """The deployment, once it is made or changed: its status, or that of its `update`, is `Creating` no more."""
        while True:
            deployment = self.retrieve(name)
            update = deployment.get("update") or {}
            if deployment.get("status") != "Creating" and update.get("status") != "Creating":
                return deployment
            time.sleep(poll_seconds)

    def list(self) -> Iterator[Json]:
        """Every deployment of the project."""
        yield from self._wire.call("GET", "/finery/v1/deployments").get("data") or []

    def retrieve(self, name: str) -> Json:
        """One deployment."""
        return self._wire.call("GET", f"/finery/v1/deployments/{_part(name)}")

    def delete(self, name: str) -> Json:
        """Take a deployment down; its model stays."""
        return self._wire.call("DELETE", f"/finery/v1/deployments/{_part(name)}")


class Promotions:
    """Other models under a deployment's name, once they have shown enough."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def set_rule(self, deployment: str, data: str, **fields: Any) -> Json:
        """Say what a candidate must show on the rows of `data`; fields that are None are left out."""
        kept = {name: value for name, value in fields.items() if value is not None}
        path = f"/finery/v1/deployments/{_part(deployment)}/promotion_rule"
        return self._wire.call("PUT", path, json={"data": data, **kept})

    def create(self, deployment: str, model: str, *, evaluation: str | None = None) -> Json:
        """Ask for another model; the answer's status is `evaluating` while that is found out."""
        body = {"model": model, "evaluation": evaluation}
        return self._wire.call("POST", f"/finery/v1/deployments/{_part(deployment)}/promotions", json=body)

    def wait(self, deployment: str, promotion_id: str, *, poll_seconds: float = 0.5) -> Json:
        """The promotion, once it was decided."""
        while True:
            path = f"/finery/v1/deployments/{_part(deployment)}/promotions/{_part(promotion_id)}"
            promotion = self._wire.call("GET", path)
            if promotion["status"] != "evaluating":
                return promotion
            time.sleep(poll_seconds)


class Evaluations:
    """Models asked the same held-out rows, and compared."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, models: Sequence[str], data: str, **fields: Any) -> Json:
        """Queue an evaluation; the last model is compared with the others. Fields that are None are left out."""
        kept = {name: value for name, value in fields.items() if value is not None}
        return self._wire.call("POST", "/finery/v1/evaluations", json={"models": [*models], "data": data, **kept})

    def retrieve(self, evaluation_id: str) -> Json:
        """One evaluation, with its report once it is completed."""
        return self._wire.call("GET", f"/finery/v1/evaluations/{_part(evaluation_id)}")

    def follow(self, evaluation_id: str, *, poll_seconds: float = 0.5) -> Iterator[Json]:
        """The evaluation again and again as it goes on; the last time when it is over."""
        while True:
            evaluation = self.retrieve(evaluation_id)
            yield evaluation
            if evaluation["status"] not in ("queued", "in_progress"):
                return
            time.sleep(poll_seconds)

    def report(self, evaluation_id: str, form: str) -> str:
        """The report as `json`, `html` or `markdown`; or its `pictures`, a JSON object of SVG texts by file name."""
        path = f"/finery/v1/evaluations/{_part(evaluation_id)}/report?format={form}"
        with self._wire.stream("GET", path) as response:
            return response.read().decode()


class Sweeps:
    """Several sets of hyperparameters over the same rows."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, model: str, training_file: str, **fields: Any) -> Json:
        """Submit a job for each set and each combination of the grid; fields that are None are left out."""
        kept = {name: value for name, value in fields.items() if value is not None}
        body = {"model": model, "training_file": training_file, **kept}
        return self._wire.call("POST", "/finery/v1/sweeps", json=body)

    def list(self, *, limit: int | None = None) -> Iterator[Json]:
        """Sweeps, newest first."""
        return self._wire.pages("/finery/v1/sweeps", limit)

    def retrieve(self, sweep_id: str) -> Json:
        """One sweep with its table."""
        return self._wire.call("GET", f"/finery/v1/sweeps/{_part(sweep_id)}")

    def cancel(self, sweep_id: str) -> Json:
        """Stop a sweep and its jobs."""
        return self._wire.call("POST", f"/finery/v1/sweeps/{_part(sweep_id)}/cancel")


class Keys:
    """API keys."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, name: str, **options: Any) -> Json:
        """A new key; its text is in the field `key`, this once. Options: role, level, permissions, principal,
        expires_in (seconds); those that are None are left out.
        """
        given = {option: value for option, value in options.items() if value is not None}
        return self._wire.call("POST", "/finery/v1/keys", json={"name": name, **given})

    def list(self) -> Iterator[Json]:
        """Every key, without its text."""
        yield from self._wire.call("GET", "/finery/v1/keys").get("data") or []

    def rotate(self, key_id: str, keep_old_for: int | None = None) -> Json:
        """A key's successor; the old one goes on for a day, or for `keep_old_for` seconds."""
        body = {} if keep_old_for is None else {"keep_old_for": keep_old_for}
        return self._wire.call("POST", f"/finery/v1/keys/{_part(key_id)}/rotate", json=body)

    def revoke(self, key_id: str) -> Json:
        """End a key at once."""
        return self._wire.call("DELETE", f"/finery/v1/keys/{_part(key_id)}")


class _Counted(io.BufferedReader):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        super().__init__(io.FileIO(path))
        self._progress = progress
        self._bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self._progress:
            self._progress(self.tell(), self._bytes)
        return data


def _deltas(chunk: Json) -> Iterator[ChatDelta]:
    if chunk.get("error"):
        raise api_error(500, chunk["error"])
    for choice in chunk.get("choices") or []:
        text = (choice.get("delta") or {}).get("content") or ""
        if text or choice.get("finish_reason"):
            yield ChatDelta(text=text, finish_reason=choice.get("finish_reason"))


def _part(identifier: str) -> str:
    """An identifier as one part of a path; colons stay, as OpenAI's SDK has it."""
    return quote(identifier, safe=":")
