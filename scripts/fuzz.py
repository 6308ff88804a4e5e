"""Runs schemathesis over the OpenAPI document of a live Finery: no 5xx, no undocumented status, no violated schema.

    python scripts/fuzz.py SCHEMATHESIS [options of `schemathesis run`, such as --max-examples 20]

SCHEMATHESIS is its program, from a virtual environment of its own (`make fuzz` makes one). The server is a real one
with a tiny model and an admin's key; what is written there is thrown away.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from servers import Server  # noqa: E402 - the tests' folder is no package
from tiny_models import write_model  # noqa: E402

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"
UNFIT = (
    # Kills the key that all other requests use.
    "/finery/v1/keys/{key_id}",
    # Wait for seconds by design: a tracker, a webhook's receiver, a worker's long poll.
    "/v1/webhook_endpoints/{endpoint_id}/test",
)


def main() -> None:
    """Entry point."""
    program, *options = sys.argv[1:] or ["schemathesis"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        models.mkdir()
        from finery.modeling import sources

        sources.import_folder(models, write_model(folder / "raw" / "phi3", "phi3"), "tiny-phi3")
        server = Server(folder / "home", models).start()
        try:
            sys.exit(run(program, server, options))
        finally:
            server.stop()


def run(program: str, server: Server, options: list[str]) -> int:
    """One run of schemathesis; its exit status."""
    command = [program, "run", f"{server.url}/openapi.json", "--checks", CHECKS, "--no-color"]
    command += ["--header", f"Authorization:Bearer {server.key}", "--phases", "coverage,fuzzing"]
    for path in UNFIT:
        command += ["--exclude-path", path]
    return subprocess.run([*command, *options], check=False).returncode


if __name__ == "__main__":
    main()
