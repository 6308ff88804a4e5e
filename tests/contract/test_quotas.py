"""A project gets as much as it may, and no more, however many ask at once."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import app
from finery.control import access, deployments, files, jobs, quotas, runs, validation
from finery.control.jobs import JobRequest
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import FineryError, OverQuota
from finery.core.quotas import Quota
from finery.settings import Settings

ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
SPENDERS, LIMIT = 100, 7


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> ControlPlane:
    return bootstrap.control_plane(Settings(home=tmp_path_factory.mktemp("quotas"), models=tiny_folder))


@pytest.fixture(scope="module")
def admin(plane: ControlPlane) -> Caller:
    return access.authenticate(plane, (plane.settings.home / "admin.key").read_text().strip())


def upload(plane: ControlPlane, caller: Caller, rows: int = 12) -> Any:
    return files.create(plane, caller, filename="rows.jsonl", purpose="fine-tune", chunks=[ROW * rows])


def all_at_once(act: Callable[[int], Any]) -> Counter[str]:
    """What became of 100 that asked at once."""

    def one(number: int) -> str:
        try:
            act(number)
        except FineryError as error:
            return error.code
        return "made"

    with ThreadPoolExecutor(SPENDERS) as pool:
        return Counter(pool.map(one, range(SPENDERS)))


def used(plane: ControlPlane, caller: Caller, quota: Quota) -> int:
    return next(count for name, _, count in quotas.list_all(plane, caller) if name == quota)


def test_a_hundred_spenders_at_a_limit_overspend_nothing(plane: ControlPlane, admin: Caller) -> None:
    file = upload(plane, admin)
    request = JobRequest(model="tiny-phi3", training_file=file.id)
    acts: dict[Quota, Callable[[int], Any]] = {
        Quota.QUEUED_JOBS: lambda _: jobs.submit(plane, admin, request),
        Quota.DEPLOYMENTS: lambda n: deployments.create(plane, admin, name=f"d{n}", model="tiny-phi3"),
        Quota.FILES: lambda _: upload(plane, admin),
    }
    for quota, act in acts.items():
        before = used(plane, admin, quota)
        quotas.put(plane, admin, quota, before + LIMIT)
        assert all_at_once(act) == {"made": LIMIT, "quota_exceeded": SPENDERS - LIMIT}
        assert used(plane, admin, quota) == before + LIMIT
        quotas.put(plane, admin, quota, None)


def test_bytes_are_counted_and_a_refused_upload_leaves_none(plane: ControlPlane, admin: Caller) -> None:
    quotas.put(plane, admin, Quota.BYTES, used(plane, admin, Quota.BYTES) + len(ROW) * 50)
    with pytest.raises(OverQuota, match="bytes of files"):
        upload(plane, admin, 51)
    upload(plane, admin, 50)
    with pytest.raises(OverQuota):
        upload(plane, admin, 13)
    quotas.put(plane, admin, Quota.BYTES, None)


def test_no_more_jobs_run_at_once_than_may(plane: ControlPlane, admin: Caller) -> None:
    quotas.put(plane, admin, Quota.RUNNING_JOBS, 2)
    file = upload(plane, admin)
    for _ in range(3):
        jobs.submit(plane, admin, JobRequest(model="tiny-phi3", training_file=file.id))
    validation.validate_pending(plane)
    claims = [runs.claim(plane, f"worker-{n}") for n in range(4)]
    assert sum(claim is not None for claim in claims) == 2
    quotas.put(plane, admin, Quota.RUNNING_JOBS, None)
    assert runs.claim(plane, "worker-9") is not None


def test_a_project_doesnt_set_its_own_limits(plane: ControlPlane) -> None:
    admin = {"authorization": f"Bearer {(plane.settings.home / 'admin.key').read_text().strip()}"}
    client = TestClient(app.build(plane))
    made = client.post("/finery/v1/keys", json={"name": "o", "role": "Owner"}, headers=admin).json()
    owner = {"authorization": f"Bearer {made['key']}"}
    path = "/finery/v1/quotas/files"
    assert client.put(path, json={"limit": 1000}, headers=owner).status_code == 403
    for limit in (-1, 1.5, "x", 10**16, True):
        assert client.put(path, json={"limit": limit}, headers=admin).status_code == 400, limit
    assert client.put("/finery/v1/quotas/wishes", json={"limit": 1}, headers=admin).status_code == 400
    assert client.put(path, json={"limit": 1}, headers=admin).status_code == 200
    refused = client.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("r.jsonl", ROW * 12)}, headers=owner
    )
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "quota_exceeded"
    assert refused.headers["x-should-retry"] == "false"
