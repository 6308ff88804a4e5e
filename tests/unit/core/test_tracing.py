"""W3C's header, and what is current."""

import pytest

from finery.core import tracing
from finery.core.tracing import Trace

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_header_is_read_and_written() -> None:
    trace = Trace.parse(GOOD)
    assert trace == Trace(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", span_id="00f067aa0ba902b7", sampled=True)
    assert trace.traceparent == GOOD
    unsampled = Trace.parse(GOOD[:-1] + "0")
    assert unsampled is not None
    assert not unsampled.sampled
    # A later version may have more to say.
    assert Trace.parse("cc" + GOOD[2:] + "-what") == trace


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        GOOD.upper(),
        GOOD + "-more",
        "ff" + GOOD[2:],
        GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        GOOD.replace("00f067aa0ba902b7", "0" * 16),
        GOOD + "\n" + GOOD,
    ],
)
def test_what_is_no_header_is_passed_over(header: str | None) -> None:
    assert Trace.parse(header) is None


def test_the_block_belongs_to_the_trace_and_to_what_was_around_it() -> None:
    trace = Trace.begin()
    with tracing.within(trace, request_id="req_1"):
        with tracing.within(None, job_id="ftjob-1"):
            assert tracing.CURRENT.get() == trace
            assert tracing.facts() == {"request_id": "req_1", "job_id": "ftjob-1"}
        assert tracing.facts() == {"request_id": "req_1"}
    assert tracing.CURRENT.get() is None
    assert not tracing.facts()
