"""What a launcher asks for before it looks for a Ray cluster; `e2e/test_ray` has a real one."""

from pathlib import Path

import pytest

from finery.core.errors import InvalidRequest
from finery.worker import cluster


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        # Set first, so that what a test leaves there is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_launcher_without_a_token_says_how_to_make_one() -> None:
    with pytest.raises(InvalidRequest, match=r"\.ray/auth_token.*ray get-auth-token --generate"):
        cluster.require_token()


def test_a_launcher_does_without_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InvalidRequest, match="RAY_AUTH_MODE is 'disabled'"):
        cluster.require_token()


@pytest.mark.parametrize("where", ["variable", "path", "home"])
def test_a_token_is_found_where_ray_looks_for_it(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "variable":
        monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    else:
        path = tmp_path / ".ray" / "auth_token" if where == "home" else tmp_path / "token"
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        if where == "path":
            monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    cluster.require_token()


def test_a_rank_takes_what_was_asked_for_and_nothing_that_wasnt() -> None:
    assert cluster.Needs().bundle() == {"CPU": 1.0}
    assert cluster.Needs(cpus=4, gpus=0.5, memory_gb=2).bundle() == {"CPU": 4, "GPU": 0.5, "memory": 2 * 2**30}
