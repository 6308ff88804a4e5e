"""How much of the machine's cores other processes use right now; it knows nothing of who they are.

llama.cpp's threads wait for each other some hundred times for every token. Spinning while they wait is fastest on a
quiet machine, and ruinous beside a busy neighbour such as a trainer: the spinning thread holds the very core that the
other one needs. Measured on 2 cores with a 135M model, tokens a second, quiet and beside a load of 7: spinning without
end 122 and 2, for at most 4,000 rounds 117 and 10, for 200 rounds 90 and 45, not at all 53 and 25.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_QUIET_ROUNDS = 4000
_CROWDED_ROUNDS = 200
_CROWDED_SHARE = 0.3
_QUIET_SHARE = 0.15


async def is_crowded(own: Iterable[int], seconds: float, *, before: bool = False) -> bool:
    """Whether others use much of the machine; `before` is the last answer, kept in between.

    `own` processes and this one don't count as others; this takes `seconds`.
    """
    share = await others_share(own, seconds)
    return share > (_QUIET_SHARE if before else _CROWDED_SHARE)


def waiting_environment(crowded: bool) -> dict[str, str]:
    """What tells OpenMP's threads in a process started now how long to spin."""
    return {"GOMP_SPINCOUNT": str(_CROWDED_ROUNDS if crowded else _QUIET_ROUNDS)}


async def others_share(own: Iterable[int], seconds: float) -> float:
    """Share of all cores, 0 to 1, that processes other than `own` used during the next `seconds`; 0 if unknown."""
    pids = list(own)
    before = _times(pids)
    await asyncio.sleep(seconds)
    after = _times(pids)
    if before is None or after is None or after[0] <= before[0]:
        return 0.0
    total, busy, ours = (later - earlier for later, earlier in zip(after, before, strict=True))
    return max(0.0, min(1.0, (busy - ours) / total))


def _times(own: list[int]) -> tuple[int, int, int] | None:
    """Ticks of all cores since boot: in total, busy, and those of `own` (proc(5): stat)."""
    try:
        values = [int(value) for value in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    idle = values[3] + values[4]
    return sum(values), sum(values) - idle, sum(map(_ticks, [os.getpid(), *own]))


def _ticks(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0
