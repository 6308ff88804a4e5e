"""How this process's allocator treats large tensors on CPUs. It does not know what the tensors are.

By default glibc hands memory of a large tensor back to the kernel when it is freed and faults it in page by page when
the next one is made. A training step makes the same tensors over and over, and paying for their pages each time was a
sixth of it (see the log of experiments); keeping the memory costs nothing, since the next step needs as much.
"""

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_LARGEST_THRESHOLD = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)
"""glibc's own upper bound (mallopt(3), M_MMAP_THRESHOLD)."""


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor, for the rest of this process; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD) and mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    return bool(kept)
