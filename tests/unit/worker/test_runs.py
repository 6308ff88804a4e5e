"""What a worker does with the files of a run."""

import errno
import os
from pathlib import Path

import pytest

from finery.worker import runs


def test_a_checkpoint_is_held_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, held = tmp_path / "optimizer.safetensors", tmp_path / "held"
    original.write_bytes(b"state")

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    runs._hold(original, held)
    original.unlink()
    assert held.read_bytes() == b"state"


def test_what_is_gone_is_not_held(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        runs._hold(tmp_path / "gone", tmp_path / "held")
