"""Secrets are shown once and kept nowhere: neither in the log, nor in the database, nor in a refusal."""

import logging
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import app
from finery.core.access import new_secret
from finery.settings import Settings


def test_canaries_are_in_no_log_no_database_and_no_refusal(
    tmp_path: Path, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plane = bootstrap.control_plane(Settings(home=tmp_path, models=tiny_folder))
    client = TestClient(app.build(plane), raise_server_exceptions=False)
    admin = (tmp_path / "admin.key").read_text().strip()
    headers = {"authorization": f"Bearer {admin}"}
    made = client.post("/finery/v1/keys", json={"name": "k", "role": "Owner"}, headers=headers).json()
    rotated = client.post(f"/finery/v1/keys/{made['id']}/rotate", headers=headers).json()
    stranger, garbled = new_secret(), "sk-finery-canarycanarycanarycanarycanarycanary"
    secrets = [admin, (tmp_path / "worker.key").read_text().strip(), made["key"], rotated["key"], stranger, garbled]
    answers = [
        client.get(path, headers={"authorization": f"Bearer {secret}"})
        for secret in secrets
        for path in ("/v1/files", "/v1/files/absent", "/finery/v1/keys", "/finery/v1/audit", "/worker/v1/claim")
    ]
    answers += [
        client.post("/finery/v1/keys", json={"name": "k", "key": secret}, headers=headers) for secret in secrets
    ]
    answers += [client.post("/v1/chat/completions", json={"api_key": secret}, headers=headers) for secret in secrets]
    assert {answer.status_code for answer in answers} <= {200, 400, 401, 404, 405}
    plane.database.close()
    database = b"".join(file.read_bytes() for file in tmp_path.glob("finery.db*"))
    assert b"keys.rotate" in database, "the dump is the whole database"
    told = caplog.text + " ".join(answer.text for answer in answers)
    for secret in secrets:
        # The middle alone, too: no piece long enough to be of use.
        assert secret[14:40] not in told
        assert secret.encode()[14:40] not in database
