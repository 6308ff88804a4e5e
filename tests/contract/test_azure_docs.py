"""The programs of docs/azure.md, run in their order as they stand there."""

import json
import re
from pathlib import Path

import pytest

from servers import Server

pytest.importorskip("azure.ai.projects")

PAGE = Path(__file__).parents[2] / "docs" / "azure.md"


def test_the_programs_work(
    tls_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    rows = [
        {"messages": [{"role": "user", "content": f"red {i}"}, {"role": "assistant", "content": "blue"}]}
        for i in range(12)
    ]
    data = tmp_path / "tickets.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ca = str(tls_server.home / "tls" / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca)
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    names = {"URL": tls_server.url, "KEY": tls_server.key, "DATA": str(data), "MODEL": "tiny-phi3"}
    for program in programs:
        exec(compile(program, str(PAGE), "exec"), names)
    assert "Succeeded" in capsys.readouterr().out
