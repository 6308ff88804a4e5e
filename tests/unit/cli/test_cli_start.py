"""The command line starts at once, ends as documented, and its reference is what its help says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finery.cli.app import app
from finery.cli.reference import reference

HEAVY = ("torch", "transformers", "fastapi", "starlette", "sqlalchemy", "openai", "numpy", "httpx", "rich", "uvicorn")

run = CliRunner().invoke


def imported(code: str, **environment: str) -> set[str]:
    """Top-level modules that a fresh Python has after the code."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_commands_are_loaded_without_anything_heavy():
    assert imported("import finery.cli.app").isdisjoint(HEAVY)


def command(*arguments: str) -> str:
    """Python that runs a command and goes on."""
    lines = (f"import sys; sys.argv = {['finery', *arguments]}", "import finery.cli")
    return "\n".join([*lines, "try:", "    finery.cli.main()", "except SystemExit:", "    pass"])


def test_help_needs_nothing_heavy_either():
    assert imported(command("tune", "--help")).isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [("jobs", "list"), ("doctor", "--json")])
def test_a_client_command_and_the_doctor_load_no_torch_and_no_server(tmp_path, arguments):
    loaded = imported(command(*arguments), FINERY_HOME=str(tmp_path), FINERY_BASE_URL="", FINERY_API_KEY="")
    assert loaded.isdisjoint({"torch", "transformers", "fastapi", "sqlalchemy", "openai", "xllamacpp"})
    assert "finery" in loaded


def test_the_reference_page_is_what_the_help_texts_say():
    page = Path(__file__).parents[3] / "docs" / "cli.md"
    assert page.read_text() == reference(), "run: python -m finery.cli.reference > docs/cli.md"


def test_every_command_and_option_explains_itself():
    page = reference()
    assert "None" not in page
    assert not re.findall(r"`: *$", page, re.MULTILINE)
    assert page.count("\n### finery ") >= 20


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["tune"], ["tune", "/no/such/file", "--model", "m"], ["jobs", "show"]]
)
def test_wrong_usage_ends_with_2(arguments):
    assert run(app, arguments).exit_code == 2


def test_an_unforeseen_fault_is_one_red_line_and_1(tmp_path):
    code = (
        "import sys, finery.sdk; sys.argv = ['finery', 'jobs', 'list']\n"
        "def broken(*_, **__): raise ZeroDivisionError('by nought')\n"
        "finery.sdk.Finery = broken\n"
        "import finery.cli; finery.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ZeroDivisionError: by nought" in done.stderr
    assert "FINERY_DEBUG" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(server):
    server.state.files = {
        f"file-{n}": {"id": f"file-{n}", "filename": "x" * 200, "purpose": "evals", "bytes": 1, "created_at": 1}
        for n in range(2000)
    }
    command = f"{sys.executable} -m finery.cli files list --limit 2000 | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("ID")
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
