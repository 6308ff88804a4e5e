"""A python grader computes, and can do nothing else: every door is tried."""

import os
import sys
from pathlib import Path

import pytest

from finery.core.errors import InvalidRequest
from finery.evaluation import python_grader
from finery.evaluation.python_grader import Limits, PythonGraderFailed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="python graders run on Linux only")

LIMITS = Limits(cpu_seconds=2, wall_seconds=60.0, memory_bytes=1 << 29)


def run(body: str, *, head: str = "", limits: Limits = LIMITS) -> float:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    source = f"{head}\ndef grade(sample, item):\n{lines}\n"
    return python_grader.run(source, {"output_text": "blue"}, {"label": "blue"}, limits)


def test_it_grades_with_what_it_is_given() -> None:
    assert run("return sample['output_text'] == item['label']") == 1.0
    head = "import re, json, statistics\nfrom difflib import SequenceMatcher\nfrom datetime import datetime"
    assert run("return SequenceMatcher(None, 'ab', 'ac').ratio()", head=head) == 0.5
    assert run("return datetime.strptime('2026', '%Y').year", head=head) == 2026
    assert run("print('noise' * 1000)\nreturn statistics.mean([1, 2])", head=head) == 1.5


@pytest.mark.parametrize(
    "body",
    [
        "open('/etc/passwd').read()",
        "os.listdir('/')",
        "os.stat('/etc/passwd')",
        "os.open('{tmp}/made', os.O_CREAT | os.O_WRONLY)",
        "os.mkdir('{tmp}/made')",
        "os.unlink('{tmp}/kept')",
        "os.rename('{tmp}/kept', '{tmp}/made')",
        "os.symlink('{tmp}/kept', '{tmp}/made')",
        "os.chdir('/tmp')",
        "os.fork()",
        "os.execv('/bin/sh', ['sh'])",
        "os.kill({pid}, 9)",
        "os.setuid(0)",
        "os.pipe()",
        "os.memfd_create('x')",
    ],
)
def test_every_door_is_closed(body: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    body = body.replace("{tmp}", str(tmp_path)).replace("{pid}", str(os.getpid()))
    with pytest.raises(PythonGraderFailed, match=r"PermissionError|Operation not permitted|ModuleNotFound|ImportError"):
        run(f"os = __import__('os')\n{body}\nreturn 1")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "kept"


def test_no_socket_is_opened() -> None:
    for module in ("socket", "ctypes", "subprocess", "asyncio", "sys", "os"):
        with pytest.raises(PythonGraderFailed, match=f"can't import '{module}'"):
            run("return 1", head=f"import {module}")
    # The system call itself: sys.modules still has the ctypes that closed the doors.
    reach = "import json\nctypes = json.codecs.__dict__['sys'].modules['ctypes']"
    assert run(f"{reach}\nreturn ctypes.CDLL(None, use_errno=True).socket(2, 1, 0)") == -1.0
    assert run(f"{reach}\nreturn ctypes.CDLL(None, use_errno=True).getpid() > 0") == 1.0


def test_loops_memory_and_floods_end() -> None:
    with pytest.raises(PythonGraderFailed, match="2 s of CPU time"):
        run("while True: pass")
    with pytest.raises(PythonGraderFailed, match="512 MB of memory"):
        run("return len([0] * 10**9)")
    with pytest.raises(PythonGraderFailed, match="took too long"):
        run("import time\ntime.sleep(60)\nreturn 1", limits=Limits(cpu_seconds=2, wall_seconds=3.0))
    flood = "os = __import__('os')\nfor number in range(3, 9):\n    try:\n        while True: os.write(number, b'x')\n"
    with pytest.raises(PythonGraderFailed):
        run(flood + "    except OSError: pass\nreturn 1")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 'good'", "could not convert"),
        ("return float('nan')", "no finite number"),
        ("return None", "TypeError"),
        ("raise ValueError('no label')", "ValueError: no label"),
        ("raise SystemExit(3)", "SystemExit"),
        ("__import__('os')._exit(0)", "no answer"),
    ],
)
def test_what_is_no_grade_says_why(body: str, said: str) -> None:
    with pytest.raises(PythonGraderFailed, match=said) as failed:
        run(body)
    assert failed.value.kind == "runtime"


def test_the_environment_and_the_servers_files_are_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINERY_SECRET", "sesame")
    assert run("return len(__import__('os').environ.get('FINERY_SECRET', ''))") == 0.0


def test_a_source_that_is_no_grader_is_refused_before_it_runs() -> None:
    for source, said in (
        ("def grade(:", "no Python"),
        ("x = 1", "no function grade"),
        ("#" * 300_000, "at most"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            python_grader.check(source)
