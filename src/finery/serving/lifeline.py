"""A child process ends with its parent, even when the parent is killed; it knows nothing of what the child does."""

import ctypes
import os
import select
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the *thread* that started it ends; exit now if the parent already has.

    Only for children of a thread that lives as long as its process. Linux only; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # the parent ended before the kernel was told
        os._exit(1)


def die_with_input() -> None:
    """End this process when its standard input is closed: the parent holds the other end of that pipe while it lives.

    Unlike `die_with_parent` it doesn't matter which of the parent's threads started the process.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def die_with_process(pid: int) -> None:
    """End this process when another one ends, be it a parent or not. Linux only; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
