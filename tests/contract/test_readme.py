"""The README's program, run as it stands there."""

import json
import re
from pathlib import Path

import pytest

from servers import Server

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_program_works(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    rows = [
        {"messages": [{"role": "user", "content": f"red {i}"}, {"role": "assistant", "content": "blue"}]}
        for i in range(12)
    ]
    data = tmp_path / "tickets.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = {"URL": server.url, "KEY": server.key, "DATA": str(data), "MODEL": "tiny-phi3"}
    exec(compile(program, str(README), "exec"), names)
    assert capsys.readouterr().out.strip()
