"""Limits and queues as requests meet them: who is refused, what it is told, what is settled."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from finery.api.limits import duration, headers
from finery.control.admission import TICKET, UNSAID_ANSWER_TOKENS, Admission, Ticket, estimate
from finery.core.deployments import Deployment, DeploymentStatus, check_sku
from finery.core.errors import RateLimited
from finery.serving.protocol import Finish, GenerateRequest


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(places=2, waiting=1, clock=clock)


@pytest.fixture
def ticket() -> Iterator[Ticket]:
    """The ticket of one HTTP request."""
    given = Ticket()
    token = TICKET.set(given)
    yield given
    TICKET.reset(token)


def deployment(capacity: int = 1, replicas: int = 1) -> Deployment:
    return Deployment(
        name="d",
        project_id="p",
        model="m",
        base_model="m",
        status=DeploymentStatus.SUCCEEDED,
        sku=check_sku({"capacity": capacity}),
        replicas=replicas,
        created_at=0,
        updated_at=0,
    )


def request(max_tokens: int | None) -> GenerateRequest:
    return GenerateRequest(messages=[{"role": "user", "content": "x" * 400}], max_tokens=max_tokens)


def asked(max_tokens: int = 10) -> int:
    """Tokens of such a request: 101 of its prompt, and the answer's."""
    return estimate(request(max_tokens))


def enter_all(admission: Admission, to: Deployment, *requests: int) -> None:
    """Each request one after the other, none of which answers anything."""
    for tokens in requests:
        with admission.enter("p", "d", to, tokens):
            pass


def finish(prompt: int, completion: int) -> Finish:
    return Finish(reason="stop", prompt_tokens=prompt, completion_tokens=completion)


def test_an_estimate_is_prompt_and_answer() -> None:
    assert asked(10) == 101 + 10
    assert estimate(request(None)) == 101 + UNSAID_ANSWER_TOKENS
    assert estimate(GenerateRequest(prompt_tokens=[1, 2, 3], max_tokens=4)) == 7


def test_what_was_used_is_settled_and_told(admission: Admission, ticket: Ticket) -> None:
    with admission.enter("p", "d", deployment(), asked(800)) as meter:
        assert ticket.standing is not None
        assert (ticket.standing.remaining_tokens, ticket.standing.remaining_requests) == (99, 5)
        meter.see(finish(90, 10))
    ticket.counted = False
    with admission.enter("p", "d", deployment(), asked(10)):
        assert ticket.standing.limit_tokens == 1000
        assert (ticket.standing.remaining_tokens, ticket.standing.remaining_requests) == (789, 4)


def test_over_the_limit_is_refused_with_the_time_to_wait(admission: Admission, clock: Clock, ticket: Ticket) -> None:
    with admission.enter("p", "d", deployment(), asked(800)) as meter:
        meter.see(finish(100, 800))
    with pytest.raises(RateLimited, match="1000 tokens a minute") as refused:
        enter_all(admission, deployment(), asked(100))
    assert refused.value.retry_after_seconds == pytest.approx(101 * 60 / 1000)
    assert ticket.standing is not None
    assert dict(headers(ticket.standing))[b"x-ratelimit-remaining-tokens"] == b"100"
    clock.now += refused.value.retry_after_seconds
    with admission.enter("p", "d", deployment(), asked(100)):
        pass


def test_an_answer_that_failed_costs_nothing(admission: Admission, ticket: Ticket) -> None:
    with pytest.raises(ZeroDivisionError), admission.enter("p", "d", deployment(), asked(800)):
        raise ZeroDivisionError
    with admission.enter("p", "d", deployment(), asked(800)):
        pass


def test_several_answers_of_one_request_count_once(admission: Admission, ticket: Ticket) -> None:
    with admission.enter("p", "d", deployment(), asked()), admission.enter("p", "d", deployment(), asked()):
        assert ticket.standing is not None
        assert ticket.standing.remaining_requests == 5


def test_only_so_many_may_wait_and_replicas_make_room(admission: Admission, ticket: Ticket) -> None:
    one = asked(1)
    with ExitStack() as answers:
        for _ in range(3):
            answers.enter_context(admission.enter("p", "m", None, one))
        assert admission.active("p", "m") == 3
        with pytest.raises(RateLimited) as refused:
            answers.enter_context(admission.enter("p", "m", None, one))
        assert refused.value.code == "queue_full"
        answers.enter_context(admission.enter("another project", "m", None, one))
    assert admission.active("p", "m") == 0
    with ExitStack() as answers:
        for _ in range(5):
            answers.enter_context(admission.enter("p", "d", deployment(100, replicas=2), one))
        assert admission.active("p", "d") == 5


def test_what_asks_by_itself_is_never_refused_but_counts(admission: Admission, clock: Clock) -> None:
    for _ in range(20):
        with admission.enter("p", "d", deployment(), asked(800)) as meter:
            meter.see(finish(100, 100))
    token = TICKET.set(Ticket())
    try:
        with pytest.raises(RateLimited):
            enter_all(admission, deployment(), asked(800))
    finally:
        TICKET.reset(token)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0123, "13ms"), (1, "1s"), (1.5, "1.5s"), (59.9991, "1m0s"), (360, "6m0s"), (61.25, "1m1.25s")],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
