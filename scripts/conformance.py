"""Runs the test-suite of the `openai` package against a live Finery, and tells what passes and why the rest doesn't.

    python scripts/conformance.py [fine_tuning files ...]

The suite comes from the source archive of the pinned release. The server is a real one with a tiny model; a pytest
plugin (`conformance_plugin.py`) puts the few fixed ids that the suite asks for into its database before each test. No
server outside this script does that.
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

VERSION = "3.54.0"
ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".cache" / "conformance"
EXTRAS = (f"openai[aiohttp]=={VERSION}", "pytest-asyncio", "respx", "rich")

NOUNS = {
    "fine_tuning": ["fine_tuning/test_jobs.py", "fine_tuning/jobs", "fine_tuning/checkpoints"],
    "files": ["test_files.py"],
    "uploads": ["test_uploads.py", "uploads"],
    "models": ["test_models.py"],
    "chat": ["chat"],
    "completions": ["test_completions.py"],
    "embeddings": ["test_embeddings.py"],
    "moderations": ["test_moderations.py"],
    "batches": ["test_batches.py"],
    "responses": ["test_responses.py", "responses"],
    "conversations": ["test_conversations.py", "conversations"],
    "webhooks": ["test_webhooks.py", "webhooks"],
}

KNOWN = {
    r"test_responses.*create_with_all_params": "asks for a stored prompt",
    r"test_input_tokens.*count_with_all_params": "goes on from a response and a conversation at once",
    r"test_embeddings.*create": "the SDK's strict mode refuses the base64 that the SDK asks for",
    r"test_completions.*create_with_all_params": "asks to fill in the middle of a text, which the model can't",
    r"retrieve_content": "skipped by the suite itself",
}
"""Why a test can't pass, by a pattern of its name."""


def main() -> None:
    """Entry point."""
    nouns = sys.argv[1:] or list(NOUNS)
    suite = fetch()
    report = FOLDER / "report.xml"
    tests = [str(suite / "tests" / "api_resources" / path) for noun in nouns for path in NOUNS[noun]]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(FOLDER / "site"), str(ROOT / "scripts"), str(ROOT / "tests"), str(suite)]),
        "OMP_NUM_THREADS": "1",
    }
    options = ["-q", "-p", "conformance_plugin", "--tb=line", f"--junitxml={report}", "--rootdir", str(suite)]
    options += ["-c", str(suite / "pyproject.toml"), "-o", "addopts=", "-o", "filterwarnings="]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        env=environment,
        cwd=suite,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    tell(report)


def fetch() -> Path:
    """The suite's folder, downloaded once, and what it needs beside it."""
    suite = FOLDER / f"openai-{VERSION}"
    if not suite.is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--quiet"]
        subprocess.run(
            [*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", str(FOLDER), f"openai=={VERSION}"],
            check=True,
        )
        subprocess.run([*pip, "install", "--target", str(FOLDER / "site"), *EXTRAS], check=True)
        with tarfile.open(FOLDER / f"openai-{VERSION}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")
    if not (suite / "tests" / "api_resources").is_dir():
        sys.exit(f"The source archive of openai {VERSION} holds no tests/api_resources.")
    return suite


def tell(report: Path) -> None:
    """Print shares and failures of pytest's report."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    ran = [case for case in cases if case.find("skipped") is None]
    bad = [case for case in ran if case.find("failure") is not None or case.find("error") is not None]
    unknown = 0
    for case in bad:
        name = f"{case.get('classname', '').replace('tests.api_resources.', '')}.py::{case.get('name')}"
        reason = next((why for pattern, why in KNOWN.items() if re.search(pattern, name)), "")
        unknown += not reason
        fault = case.find("failure")
        text = (fault.get("message") if fault is not None else "error") or ""
        print(f"FAILED {name}: {reason or 'UNEXPLAINED ' + text[:300]}")
    passed = len(ran) - len(bad)
    share = 100 * passed / max(1, len(ran))
    print(f"{passed} of {len(ran)} pass ({share:.1f} %); {len(cases) - len(ran)} skipped by the suite itself")
    sys.exit(1 if unknown or not ran else 0)


if __name__ == "__main__":
    main()
