"""What a client is told of its limits: OpenAI's `x-ratelimit-*` headers. Decides nothing."""

import math

from finery.core.limits import Standing

Headers = list[tuple[bytes, bytes]]


def headers(standing: Standing) -> Headers:
    """The six headers; times are written as OpenAI's are: `120ms`, `1.5s`, `6m0s`."""
    told = {
        "limit-requests": str(standing.limit_requests),
        "limit-tokens": str(standing.limit_tokens),
        "remaining-requests": str(standing.remaining_requests),
        "remaining-tokens": str(standing.remaining_tokens),
        "reset-requests": duration(standing.reset_requests_seconds),
        "reset-tokens": duration(standing.reset_tokens_seconds),
    }
    return [(f"x-ratelimit-{name}".encode(), value.encode()) for name, value in told.items()]


def duration(seconds: float) -> str:
    """Seconds as Go writes a duration, rounded up to milliseconds."""
    milliseconds = math.ceil(1000 * seconds)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{text}" if minutes else text
