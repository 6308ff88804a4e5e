"""Which conversations are captured is what was said last, whoever was looking it up meanwhile."""

import threading
from pathlib import Path

import pytest

from finery import bootstrap
from finery.control import capture
from finery.control.traffic import Traffic
from finery.core.capture import CapturePolicy
from finery.settings import Settings

DEPLOYMENT = ("project", "support")


def test_what_was_looked_up_before_somebody_switched_it_on_does_not_switch_it_off() -> None:
    traffic = Traffic()
    as_of = traffic.policy_changes
    looked_up: dict[tuple[str, str], CapturePolicy] = {}
    traffic.capture(*DEPLOYMENT, CapturePolicy())
    traffic.capture_only(looked_up, as_of=as_of)
    assert traffic._policies == {DEPLOYMENT: CapturePolicy()}
    traffic.capture_only(looked_up, as_of=traffic.policy_changes)
    assert traffic._policies == {}


def test_who_reads_while_another_writes_waits_and_finds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = bootstrap.control_plane(Settings(home=tmp_path))
    taken, go = threading.Event(), threading.Event()

    def slow() -> list[object]:
        if taken.is_set():
            return []
        taken.set()
        go.wait(30)
        return []

    monkeypatch.setattr(plane.traffic, "take_captured", slow)
    first = threading.Thread(target=capture.save, args=(plane,))
    first.start()
    taken.wait(30)
    second = threading.Thread(target=capture.save, args=(plane,))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go.set()
    second.join(30)
    first.join(30)
    assert not second.is_alive()
    plane.database.close()
