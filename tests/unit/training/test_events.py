"""events.jsonl survives kills."""

import json
from pathlib import Path

from finery.training.events import EventLog
from finery.training.spec import EVENTS_FILE, Event


def test_a_half_written_line_is_cut_and_attempts_are_counted(tmp_path: Path) -> None:
    first = EventLog(tmp_path)
    first.message("started:1", "Loading…")
    first.metrics("Step 1/2", {"step": 1, "train_loss": 0.1})
    with (tmp_path / EVENTS_FILE).open("ab") as file:
        file.write(b'{"key": "step:2", "ty')
    second = EventLog(tmp_path)
    second.error("No", code="boom")
    lines = (tmp_path / EVENTS_FILE).read_text(encoding="utf-8").splitlines()
    events = [Event.parse(line) for line in lines]
    assert [event.key for event in events] == ["started:1", "step:1", "error:2"]
    assert events[1].data["train_loss"] == 0.1
    assert events[2].level == "error"
    assert events[2].data == {"code": "boom"}


def test_each_line_is_there_as_soon_as_it_is_said(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for number in range(3):
        log.message(f"m:{number}", "ü")
        assert len((tmp_path / EVENTS_FILE).read_bytes().splitlines()) == number + 1
    assert json.loads((tmp_path / EVENTS_FILE).read_text(encoding="utf-8").splitlines()[0])["message"] == "ü"


def test_a_silent_rank_writes_nothing(tmp_path: Path) -> None:
    EventLog(tmp_path, writes=False).message("m", "text")
    assert not (tmp_path / EVENTS_FILE).exists()
