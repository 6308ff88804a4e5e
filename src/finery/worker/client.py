"""The worker's side of /worker/v1: calls that are repeated until they are answered. Decides nothing."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from finery import telemetry
from finery.core.errors import BlobsMissing, Fenced, FineryError, Unavailable

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024
_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class WorkerClient:
    """Speaks for one worker. A server that doesn't answer is asked again until `patience_seconds` are over:
    restarting the control plane must not cost a run."""

    def __init__(self, base_url: str, secret: str, *, patience_seconds: float = 600.0) -> None:
        self._http = httpx.Client(
            base_url=f"{base_url.rstrip('/')}/worker/v1",
            headers={"authorization": f"Bearer {secret}"},
            timeout=_TIMEOUT,
        )
        self._patience = patience_seconds

    def claim(self, worker_id: str) -> dict[str, Any] | None:
        """The next job, or None where nothing waits."""
        answer = self._send(lambda: self._http.post("/claim", json={"worker_id": worker_id}))
        return None if answer.status_code == 204 else dict(answer.json())

    def tell(self, job_id: str, what: str, **body: Any) -> dict[str, Any]:
        """One call about a job: heartbeat, events, checkpoints, resume-point, succeeded, failed, give-back.

        Raises:
            Fenced: the lease is no longer ours.
            BlobsMissing: what was uploaded is gone.
            Unavailable: the server doesn't answer for too long.
        """
        # A beat a second would hide all else in a job's trace.
        headers = {} if what == "heartbeat" else telemetry.headers()
        answer = self._send(lambda: self._http.post(f"/jobs/{job_id}/{what}", json=body, headers=headers))
        return dict(answer.json())

    def upload(self, job_id: str, epoch: int, sha256: str, path: Path) -> None:
        """Send a file the run made."""
        url = f"/jobs/{job_id}/blobs/{sha256}"
        headers = telemetry.headers()
        self._send(lambda: self._http.put(url, params={"epoch": epoch}, content=_chunks(path), headers=headers))

    def download(self, job_id: str, epoch: int, sha256: str, path: Path) -> None:
        """Fetch a file the run needs."""

        def fetch() -> httpx.Response:
            url = f"/jobs/{job_id}/blobs/{sha256}"
            with self._http.stream("GET", url, params={"epoch": epoch}, headers=telemetry.headers()) as answer:
                if answer.is_success:
                    with path.open("wb") as file:
                        for chunk in answer.iter_bytes():
                            file.write(chunk)
                else:
                    answer.read()
                return answer

        self._send(fetch)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        end = time.monotonic() + self._patience
        for attempt in range(10**9):
            try:
                answer = call()
                if answer.status_code < 500:
                    return _checked(answer)
                reason = f"status {answer.status_code}"
            except httpx.TransportError as error:
                reason = type(error).__name__
            pause = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
            if time.monotonic() + pause > end:
                raise Unavailable(f"The control plane at {self._http.base_url} doesn't answer ({reason}).")
            log.warning("control plane: %s; asking again in %.1f s", reason, pause)
            time.sleep(pause)
        raise AssertionError


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    error = answer.json().get("error", {})
    for known in (Fenced, BlobsMissing):
        if error.get("code") == known.code:
            raise known(error["message"])
    raise FineryError(error.get("message", f"status {answer.status_code}"), code=error.get("code"))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
