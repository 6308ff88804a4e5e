"""Fair between projects, in order within one, never idle while something may run, never over a limit."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from finery.core.scheduling import Share, Waiting, next_job

PROJECTS = st.sampled_from("abcde")
QUEUES = st.lists(PROJECTS, max_size=40).map(
    lambda owners: [Waiting(job_id=f"j{n}", project_id=owner, position=n) for n, owner in enumerate(owners)]
)
SHARES = st.dictionaries(
    PROJECTS,
    st.builds(Share, running=st.integers(0, 5), most=st.none() | st.integers(0, 5), served_at=st.integers(0, 9)),
)


def room(share: Share) -> bool:
    return share.most is None or share.running < share.most


@given(QUEUES, SHARES)
def test_something_runs_whenever_something_may(waiting: list[Waiting], shares: dict[str, Share]) -> None:
    may = [job for job in waiting if room(shares.get(job.project_id, Share()))]
    assert (next_job(waiting, shares) is not None) == bool(may)


@given(QUEUES, SHARES)
def test_the_one_chosen_is_its_projects_oldest_and_nobody_with_less_waits(
    waiting: list[Waiting], shares: dict[str, Share]
) -> None:
    chosen = next_job(waiting, shares)
    if chosen is None:
        return
    mine = shares.get(chosen.project_id, Share())
    assert room(mine)
    assert all(job.position >= chosen.position for job in waiting if job.project_id == chosen.project_id)
    for job in waiting:
        other = shares.get(job.project_id, Share())
        assert not room(other) or other.running >= mine.running


@given(QUEUES, SHARES, st.randoms())
def test_the_order_of_rows_makes_no_difference(
    waiting: list[Waiting], shares: dict[str, Share], random: object
) -> None:
    shuffled = list(waiting)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert next_job(shuffled, shares) == next_job(waiting, shares)


@given(QUEUES, st.integers(1, 8))
def test_workers_are_shared_evenly_and_everybody_is_served(waiting: list[Waiting], workers: int) -> None:
    """A run of the whole queue: jobs of one length, on some workers."""
    left, running, served, clock = list(waiting), [], dict.fromkeys("abcde", 0), 0
    while left or running:
        while len(running) < workers and left:
            counts = Counter(job.project_id for job in running)
            shares = {name: Share(running=counts[name], served_at=served[name]) for name in "abcde"}
            job = next_job(left, shares)
            assert job is not None
            clock += 1
            served[job.project_id] = clock
            left.remove(job)
            running.append(job)
        counts = Counter(job.project_id for job in running)
        for job in left:
            # Whoever waits has no fewer than the largest share but one.
            assert counts[job.project_id] >= max(counts.values()) - 1
        running.pop(0)
