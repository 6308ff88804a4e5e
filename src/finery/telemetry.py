"""Logs and traces of this process. Logs are lines on standard error; traces go to an OpenTelemetry collector.

Traces are off unless the standard variables say so (OTEL_EXPORTER_OTLP_ENDPOINT and its kin); OpenTelemetry is imported
only then. Which trace is current is `core.tracing`'s, on or off. Knows no routes and no jobs.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from finery.core import tracing
from finery.core.errors import InvalidRequest, Unavailable
from finery.core.tracing import Trace

LOG_FORMATS = ("text", "json")
REQUESTS = "finery.requests"
"""The log of requests, a line each; only as JSON: to people they say nothing."""

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Facts = Mapping[str, str | int | float | bool]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
_QUIET = ("httpx", "alembic")


@dataclass(slots=True)
class Span:
    """Work that is going on."""

    trace: Trace | None
    name: str
    facts: dict[str, str | int | float | bool] = field(default_factory=dict)
    """More may be added until it ends."""
    failed: str = ""
    """Why it went wrong, if it did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A span that another process measured; times are nanoseconds since 1970."""

    trace: Trace
    parent: Trace
    name: str
    start: int
    end: int
    facts: Facts


class _Tracing:
    """What collects spans, once it was started."""

    def __init__(self) -> None:
        self.tracers: dict[str, Any] = {}
        self.service = ""


_state = _Tracing()


def start(part: str = "", *, log_format: str = "text") -> None:
    """Log, and trace where the environment asks for it, as `finery` or one of its parts ("worker").

    Raises:
        InvalidRequest: an environment that asks for what isn't there, naming it.
        Unavailable: traces are asked for and OpenTelemetry isn't installed.
    """
    service = "-".join(filter(None, (os.environ.get("OTEL_SERVICE_NAME") or "finery", part)))
    _start_logs(service, log_format)
    if wanted():
        _state.service = service
        _tracer(service)


def wanted() -> bool:
    """Whether the environment asks for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter not in ("", "otlp", "none"):
        raise InvalidRequest(f"OTEL_TRACES_EXPORTER is {exporter!r}; Finery sends traces by otlp, or none.")
    asked = exporter == "otlp" or (not exporter and any(os.environ.get(name) for name in _ENDPOINTS))
    protocol = next((os.environ[name] for name in reversed(_PROTOCOLS) if os.environ.get(name)), "http/protobuf")
    if asked and protocol != "http/protobuf":
        raise InvalidRequest(
            f"The OTLP protocol is {protocol!r}; Finery speaks http/protobuf (a collector's port 4318). Set "
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the endpoint to match."
        )
    return asked


def on() -> bool:
    """Whether this process sends traces."""
    return bool(_state.tracers)


@contextmanager
def span(
    name: str, *, parent: Trace | None = None, kind: Kind = "internal", facts: Facts | None = None
) -> Iterator[Span]:
    """Work that takes time; what is done in the block belongs to it. It is a part of `parent`, else of the current.

    Without a collector it measures nothing, and the current trace stays the parent's.
    """
    above = parent or tracing.CURRENT.get()
    doing = Span(trace=above, name=name, facts=dict(facts or {}))
    if not on():
        with tracing.within(above):
            yield doing
        return
    from opentelemetry import trace as api

    real = _tracer(_state.service).start_span(
        name, context=_context(above), kind=getattr(api.SpanKind, kind.upper()), attributes=doing.facts
    )
    own = real.get_span_context()
    doing.trace = _as_trace(own)
    try:
        with tracing.within(doing.trace):
            yield doing
    except BaseException as error:
        doing.failed = doing.failed or type(error).__name__
        raise
    finally:
        real.update_name(doing.name)
        real.set_attributes(doing.facts)
        if doing.failed:
            real.set_status(api.Status(api.StatusCode.ERROR, doing.failed))
        real.end()


def tell(part: str, spans: Sequence[Told]) -> None:
    """Send spans that a process without a way to the collector measured, as that part of Finery."""
    if not (on() and spans):
        return
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    tracer = _tracer(f"{_state.service.removesuffix('-worker')}-{part}")
    for one in spans:
        if one.trace.sampled:
            tracer.span_processor.on_end(
                ReadableSpan(
                    name=one.name,
                    context=_span_context(one.trace),
                    parent=_span_context(one.parent),
                    resource=tracer.resource,
                    attributes=dict(one.facts),
                    start_time=one.start,
                    end_time=one.end,
                    instrumentation_scope=InstrumentationScope("finery"),
                )
            )


def headers() -> dict[str, str]:
    """What a call to another process says of the trace it belongs to."""
    current = tracing.CURRENT.get()
    return {tracing.HEADER: current.traceparent} if current else {}


class JsonLines(logging.Formatter):
    """A log record as one line of JSON, with the trace, the request and the job it belongs to."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        current = tracing.CURRENT.get()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **({"trace_id": current.trace_id, "span_id": current.span_id} if current else {}),
            **tracing.facts(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _start_logs(service: str, log_format: str) -> None:
    if log_format not in LOG_FORMATS:
        raise InvalidRequest(f"FINERY_LOG_FORMAT is {log_format!r}; it must be one of {', '.join(LOG_FORMATS)}.")
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonLines(service) if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in (*_QUIET, *([REQUESTS] if log_format == "text" else [])):
        logging.getLogger(name).setLevel(logging.WARNING)


def _tracer(service: str) -> Any:
    """The tracer of a service; made when it is first asked for."""
    if service not in _state.tracers:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise Unavailable(
                f"The environment (OTEL_…) asks for traces, and {error.name} is missing: pip install 'finery[otel]', "
                "or set OTEL_SDK_DISABLED=true."
            ) from None
        import finery

        facts = {"service.name": service, "service.version": finery.__version__}
        provider = TracerProvider(resource=Resource.create(facts))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        _state.tracers[service] = provider.get_tracer("finery", finery.__version__)
    return _state.tracers[service]


def _context(trace: Trace | None) -> Any:
    from opentelemetry import context as contexts
    from opentelemetry import trace as api

    if trace is None:
        return contexts.Context()
    return api.set_span_in_context(api.NonRecordingSpan(_span_context(trace)), contexts.Context())


def _span_context(trace: Trace) -> Any:
    from opentelemetry import trace as api

    return api.SpanContext(
        trace_id=int(trace.trace_id, 16),
        span_id=int(trace.span_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED if trace.sampled else api.TraceFlags.DEFAULT),
    )


def _as_trace(context: Any) -> Trace:
    return Trace(
        trace_id=f"{context.trace_id:032x}", span_id=f"{context.span_id:016x}", sampled=context.trace_flags.sampled
    )
