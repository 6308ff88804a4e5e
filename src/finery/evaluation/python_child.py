"""A python grader's own process: imports, then the doors close, then the grader runs. Started by `python_grader`.

Before a line of the grader runs, seccomp lets no system call through but those on a short list: no file is opened, no
socket, no process, no signal to others. Limits of time and memory come from the kernel too. What a grader imports is
imported before, from a list. It is a program of its own and imports nothing of Finery.

Reads a JSON object (source, sample, item, limits) from standard input; writes one (score, or error and details) to
standard output.
"""

import ast
import ctypes
import importlib
import json
import math
import os
import platform
import resource
import sys
from typing import Any

ALLOWED_IMPORTS = frozenset(
    """
    __future__ abc array ast base64 bisect calendar cmath collections colorsys contextlib copy csv dataclasses datetime
    decimal difflib enum fractions functools hashlib heapq html io itertools json keyword math numbers numpy operator
    pprint random rapidfuzz re reprlib statistics string struct textwrap time token tokenize traceback types typing
    unicodedata uuid zlib
    """.split()  # noqa: SIM905
)

# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn mremap madvise getpid
# exit exit_group futex clock_gettime clock_nanosleep nanosleep gettimeofday getrandom sched_yield sigaltstack gettid
# restart_syscall rseq
_CALLS = {
    "x86_64": (
        *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 39),
        *(60, 231, 202, 228, 230, 35, 96, 318, 24, 131, 186, 219, 334),
    ),
    "aarch64": (
        *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 172),
        *(93, 94, 98, 113, 115, 101, 169, 278, 124, 132, 178, 128, 293),
    ),
}
_AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
"""Kill the process; fail with EPERM; let through (linux/seccomp.h)."""

_NO_NEW_PRIVILEGES = 38
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_NOBODY = 65534


class _Instruction(ctypes.Structure):
    """`struct sock_filter`."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def main() -> None:
    """Grade once."""
    given = json.loads(sys.stdin.buffer.read())
    answer_to = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    try:
        code = _prepare(given["source"])
    except (ImportError, SyntaxError, ValueError, RecursionError) as error:
        _answer(answer_to, {"error": "runtime", "details": f"{type(error).__name__}: {error}"})
        return
    try:
        _lock(given["limits"])
    except OSError as error:
        _answer(answer_to, {"error": "server", "details": f"the sandbox can't be closed: {error}"})
        return
    _answer(answer_to, _grade(code, given["sample"], given["item"]))


def _prepare(source: str) -> Any:
    """The grader's code, with everything it imports imported."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] not in ALLOWED_IMPORTS:
                there = ", ".join(sorted(ALLOWED_IMPORTS))
                raise ImportError(f"a grader can't import {name!r}; it can import: {there}")
            importlib.import_module(name)
    # Imported late by what is imported above, when no file can be opened any more.
    for late in ("_strptime", "encodings.idna", "linecache", "traceback"):
        importlib.import_module(late)
    return compile(tree, "<grader>", "exec")


def _lock(limits: dict[str, int]) -> None:
    """Close all doors; OSError where one stays open."""
    machine = platform.machine()
    if machine not in _CALLS:
        raise OSError(f"no list of system calls for {machine}")
    library = ctypes.CDLL(None, use_errno=True)
    for what, most in (
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    calls = _CALLS[machine]
    lines = [
        (_LOAD, 0, 0, 4),
        (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        *((_JUMP_IF_EQUAL, len(calls) - i, 0, number) for i, number in enumerate(calls)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    program = _Program(len(lines), instructions)
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if library.syscall(_SECCOMP[machine], _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "seccomp")


def _grade(code: Any, sample: Any, item: Any) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "grader"}
    try:
        exec(code, names)  # noqa: S102 - what this process is for; every door is closed
        score = float(names["grade"](sample, item))
    except BaseException as error:
        return {"error": "runtime", "details": f"{type(error).__name__}: {error}"[:2000]}
    if not math.isfinite(score):
        return {"error": "runtime", "details": f"grade returned {score}, which is no finite number"}
    return {"score": score}


def _answer(to: int, answer: dict[str, Any]) -> None:
    os.write(to, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
