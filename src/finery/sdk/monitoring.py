"""What deployments answered, how far that drifted, and what of it is kept. Knows no httpx."""

from collections.abc import Iterator
from urllib.parse import quote

from finery.sdk.wire import Json, Wire


class Monitoring:
    """Figures of deployments, and capture of their traffic."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def metrics(self, name: str, *, seconds: int = 3600) -> Json:
        """Counters and percentiles of a deployment over the last `seconds`."""
        return self._wire.call("GET", f"{_path(name)}/metrics", params={"seconds": seconds})

    def drift(self, name: str, *, seconds: int = 86_400) -> Json:
        """How far a deployment's traffic has moved away from the training data of its model."""
        return self._wire.call("GET", f"{_path(name)}/drift", params={"seconds": seconds})

    def usage(self, *, start_time: int | None = None, width: str = "1d") -> Iterator[Json]:
        """Requests and tokens of the project by name, in spans of 5m, 1h or 1d."""
        parameters = {"bucket_width": width} | ({} if start_time is None else {"start_time": start_time})
        yield from self._wire.call("GET", "/finery/v1/usage", params=parameters).get("data") or []

    def capture(self, name: str, *, share: float, retention_days: int, redact: bool) -> Json:
        """Keep a deployment's conversations from now on."""
        body = {"share": share, "retention_days": retention_days, "redact": redact}
        return self._wire.call("PUT", f"{_path(name)}/capture", json=body)

    def stop_capture(self, name: str) -> Json:
        """Keep no more of them."""
        return self._wire.call("DELETE", f"{_path(name)}/capture")

    def forget_captured(self, name: str) -> Json:
        """Forget all that was kept."""
        return self._wire.call("DELETE", f"{_path(name)}/captured")

    def collect(self, name: str, dataset: str, *, since: int | None = None) -> Json:
        """Make a dataset's next version of the kept conversations."""
        body = {"dataset": dataset} | ({} if since is None else {"since": since})
        return self._wire.call("POST", f"{_path(name)}/captured/dataset", json=body)


def _path(name: str) -> str:
    return f"/finery/v1/deployments/{quote(name, safe='')}"
