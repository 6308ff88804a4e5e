"""One trace from a request over its job and the worker to the trainer, at a real receiver; and one id in every log."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collector import Collector, collecting
from servers import Server, until, upload, wait_for

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install 'finery[otel]'")

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ROWS = [
    {"messages": [{"role": "user", "content": f"It is red {n}"}, {"role": "assistant", "content": "red"}]}
    for n in range(12)
]


def lines(path: Path) -> list[dict[str, Any]]:
    """Those of a log that are JSON: the admin key and the address are told as they always are."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def train(server: Server, traceparent: str) -> str:
    client = server.openai()
    file = upload(client, ROWS)
    made = client.fine_tuning.jobs.with_raw_response.create(
        model="tiny-phi3",
        training_file=file,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}},
        extra_headers={"traceparent": traceparent},
    )
    job = wait_for(made.parse(), client, "succeeded")
    return f"{job.id} {made.headers['x-request-id']}"


def test_one_trace_from_the_request_to_the_trainer(tmp_path: Path, tiny_folder: Path) -> None:
    with collecting() as collector:
        server = Server(
            tmp_path / "home",
            tiny_folder,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            FINERY_LOG_FORMAT="json",
        ).start()
        try:
            job_id, request_id = train(server, f"00-{TRACE}-{CALLER}-01").split()
            until(lambda: any(span.name == "run job" for span in collector.of(TRACE)))
            # Unsampled: its caller doesn't want it recorded.
            with server.http() as http:
                assert http.get("/v1/models", headers={"traceparent": f"00-{'1' * 32}-{CALLER}-00"}).is_success
        finally:
            server.stop()
    check_spans(collector, job_id)
    check_logs(server, job_id, request_id)


def check_spans(collector: Collector, job_id: str) -> None:
    spans = collector.of(TRACE)
    names = {(span.service, span.name) for span in spans}
    assert names >= {
        ("finery", "POST /v1/fine_tuning/jobs"),
        ("finery", "validate job"),
        ("finery-worker", "run job"),
        ("finery-worker", "prepare"),
        ("finery-worker", "trainer"),
        ("finery-trainer", "load"),
        ("finery-trainer", "train"),
        ("finery-trainer", "save checkpoint"),
        ("finery-trainer", "write result"),
        ("finery", "POST /worker/v1/jobs/{job_id}/succeeded"),
    }
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        assert span.parent == CALLER or span.parent in by_id, f"{span.name} hangs in the air"
        assert span.start <= span.end
        assert not span.failed

    def way(span: Any) -> list[str]:
        return [span.name, *(way(by_id[span.parent]) if span.parent in by_id else [])]

    (train_span,) = (span for span in spans if span.name == "train")
    assert way(train_span) == ["train", "trainer", "run job", "POST /v1/fine_tuning/jobs"]
    (run,) = (span for span in spans if span.name == "run job")
    assert run.facts["finery.job_id"] == job_id
    assert not [span for span in collector.spans if "heartbeat" in span.name or "claim" in span.name]
    assert not collector.of("1" * 32)


def check_logs(server: Server, job_id: str, request_id: str) -> None:
    control_plane, worker = lines(server.home.parent / "serve.log"), lines(server.home / "worker.log")
    (asked,) = (line for line in control_plane if line.get("request_id") == request_id)
    assert (asked["trace_id"], asked["path"], asked["status"]) == (TRACE, "/v1/fine_tuning/jobs", 200)
    of_the_job = [line for line in worker if line.get("job_id") == job_id]
    assert {line["trace_id"] for line in of_the_job} == {TRACE}
    assert {line["service"] for line in of_the_job} == {"finery-worker"}
    assert any(line["message"].startswith("trainer: Loading") for line in of_the_job)


def starts_with(**environment: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys\nfrom finery import telemetry\nfrom finery.core.errors import FineryError\n"
        "try:\n    telemetry.start()\nexcept FineryError as error:\n    sys.exit(error.message)\n"
        "print('opentelemetry' in {name.partition('.')[0] for name in sys.modules})"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("environment", "imported"),
    [
        ({}, "False"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, "False"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, "False"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "True"),
    ],
)
def test_opentelemetry_is_loaded_only_where_traces_are_asked_for(environment: dict[str, str], imported: str) -> None:
    done = starts_with(**environment)
    assert done.stdout.strip() == imported, done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_finery_cannot_send_is_said_at_the_start(environment: dict[str, str]) -> None:
    done = starts_with(**environment)
    assert done.returncode == 1
    assert next(iter(environment)) in done.stderr or "OTEL_EXPORTER_OTLP_PROTOCOL" in done.stderr
