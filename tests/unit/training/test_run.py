"""The process: its exit statuses and last lines."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from finery.training.run import main
from finery.training.spec import Event, RunSpec

MakeRun = Callable[..., tuple[Path, RunSpec]]


def run_forked(folder: Path) -> int:
    """`main` in a process of its own, which has torch already."""
    import finery.training.session  # noqa: F401

    child = os.fork()
    if child == 0:
        os._exit(main([str(folder)]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def last_event(folder: Path) -> Event:
    return Event.parse((folder / "events.jsonl").read_text(encoding="utf-8").splitlines()[-1])


def test_done_is_0_and_the_result_is_the_last_line_however_often_it_is_started(make_run: MakeRun) -> None:
    folder, _ = make_run()
    for _ in range(2):
        assert run_forked(folder) == 0
        assert last_event(folder).type == "result"
        assert last_event(folder).data["folder"] == "result"


def test_a_faulty_row_is_1_and_an_error_line(make_run: MakeRun) -> None:
    folder, _ = make_run(rows=[{"messages": [{"role": "user", "content": "x"}]}])
    assert run_forked(folder) == 1
    assert last_event(folder).type == "error"
    assert last_event(folder).data["code"] == "invalid_training_row"
    assert "Line 1" in last_event(folder).message


def test_a_missing_model_is_1_and_an_error_line(make_run: MakeRun) -> None:
    folder, spec = make_run()
    data = spec.to_json() | {"model_folder": str(folder / "nowhere")}
    (folder / "spec.json").write_text(json.dumps(data), encoding="utf-8")
    assert run_forked(folder) == 1
    assert last_event(folder).type == "error"


def test_a_spec_of_another_version_is_1_and_an_error_line(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}", encoding="utf-8")
    assert run_forked(tmp_path) == 1
    assert last_event(tmp_path).data["code"] == "internal_error"


def test_the_first_event_does_not_wait_for_torch() -> None:
    code = "import sys, finery.training.run; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_stop_before_the_first_step_ends_at_once(make_run: MakeRun) -> None:
    from finery.training.events import EventLog
    from finery.training.session import run_session

    pair = {
        "input": {"messages": [{"role": "user", "content": "x"}]},
        "preferred_output": [{"role": "assistant", "content": "red"}],
        "non_preferred_output": [{"role": "assistant", "content": "blue"}],
    }
    for name, fields in {"plain": {}, "preference": {"objective": "preference", "rows": [pair] * 3}}.items():
        folder, spec = make_run(name=name, **fields)
        assert not run_session(folder, spec, EventLog(folder), lambda: True)
        assert not (folder / "checkpoints").exists()
        assert not (folder / "reference.safetensors").exists()
