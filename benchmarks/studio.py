"""How fast the Studio's pages stand there, with a project that was worked in. Run: python benchmarks/studio.py

Into a fresh home go 1,000 jobs with their models, 10,000 events (half of them of one job) and 50 deployments, and a
real server is started on it. A headless Chromium signs in: the first page is measured from the click to its content,
the Studio's program being loaded meanwhile; then every page is opened by its address, as after a click on a link from
elsewhere, from the request to its last content. The figure of a page is the median of its rounds. The last line is
JSON.

It needs what `make test-browser` installs.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from playwright.sync_api import sync_playwright  # noqa: E402

from browser.conftest import CHROMIUM  # noqa: E402
from finery import bootstrap  # noqa: E402
from finery.core import hyperparameters  # noqa: E402
from finery.core.deployments import Deployment, DeploymentStatus  # noqa: E402
from finery.core.jobs import Job, JobStatus  # noqa: E402
from finery.core.models import TunedModel  # noqa: E402
from finery.core.tenancy import DEFAULT_PROJECT  # noqa: E402
from finery.modeling import sources  # noqa: E402
from finery.settings import Settings  # noqa: E402
from finery.storage import deployments, jobs, models, projects  # noqa: E402
from servers import Server, until  # noqa: E402
from tiny_models import write_model  # noqa: E402

BASE = "tiny-phi3"
JOBS, EVENTS, DEPLOYMENTS = 1000, 10_000, 50
LONG_JOB_EVENTS = EVENTS // 2
LONG_JOB = "ftjob-0999"
DAY_SECONDS = 86_400
FIRST_PAGE_SECONDS, PAGE_SECONDS = 1.5, 0.5

PAGES = {
    "/": "table tbody tr:nth-child(5)",
    "/catalog": ".card--model",
    f"/catalog/{BASE}": ".facts",
    "/data": ".empty",
    "/fine-tune": ".q-field input",
    "/fine-tuning": "tbody tr:nth-child(25)",
    f"/fine-tuning/{LONG_JOB}": ".event:nth-child(200)",
    "/models": "tbody tr:nth-child(25)",
    f"/models/ft:{BASE}:default::0999": "section:nth-of-type(2)",
    "/deploy": "button.button--primary",
    "/deployments": "tbody tr:nth-child(25)",
    "/deployments/d-01": ".code pre",
    "/playground": ".talk__column",
    "/evaluations": ".empty",
    "/evaluate": "button.button--primary",
    "/safety": "tbody tr",
    "/monitoring": "tbody tr:nth-child(25)",
    "/projects": "tbody tr",
    "/new-project": "button.button--primary",
    "/access": "tbody tr",
    "/roles": "tbody tr:nth-child(7)",
    "/costs": ".figure",
    "/quotas": "tbody tr:nth-child(5)",
    "/audit": ".empty",
    "/doctor": "tbody tr:nth-child(10)",
}
"""Address → what stands there when its content does."""


def fill(home: Path, folder: Path) -> None:
    """A project that was worked in, put into the database as the control plane would have."""
    plane = bootstrap.control_plane(Settings(home=home, models=folder))
    began = int(time.time()) - 30 * DAY_SECONDS
    with plane.database.write() as connection:
        project = projects.find_project(connection, DEFAULT_PROJECT)
        assert project is not None
        for number in range(JOBS):
            _job(connection, project.id, number, began + 60 * number)
        for number in range(DEPLOYMENTS):
            made = began + 60 * number
            deployment = Deployment(
                name=f"d-{number:02}",
                project_id=project.id,
                model=BASE,
                base_model=BASE,
                status=DeploymentStatus.SUCCEEDED,
                created_at=made,
                updated_at=made,
            )
            deployments.insert_deployment(connection, deployment)
    plane.database.close()


def _job(connection: Any, project_id: str, number: int, moment: int) -> None:
    job_id, name = f"ftjob-{number:04}", f"ft:{BASE}:default::{number:04}"
    settings = hyperparameters.check({})
    job = Job(
        id=job_id,
        project_id=project_id,
        model=BASE,
        base_model=BASE,
        training_file="file-1",
        seed=1,
        status=JobStatus.SUCCEEDED,
        method="supervised",
        options=settings,
        resolved=settings | {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.0},
        created_at=moment,
        finished_at=moment + 50,
        fine_tuned_model=name,
    )
    jobs.insert_job(connection, job)
    model = TunedModel(
        name=name,
        project_id=project_id,
        base_model=BASE,
        job_id=job_id,
        step=None,
        manifest={"files": {}},
        created_at=moment + 50,
    )
    models.insert_model(connection, model)
    count = LONG_JOB_EVENTS if job_id == LONG_JOB else (EVENTS - LONG_JOB_EVENTS) // (JOBS - 1)
    steps = (
        {
            "key": f"step:{step}",
            "created_at": moment + step % 50,
            "type": "metrics",
            "message": f"Step {step}: training loss={3 / (1 + step / 100):.2f}",
            "data": {"step": step, "total_steps": count, "train_loss": 3 / (1 + step / 100)},
        }
        for step in range(1, count + 1)
    )
    jobs.insert_events(connection, job_id, steps)


def ask(server: Server) -> None:
    """One question, so that there is something to monitor; it is told a few seconds later."""
    with server.http() as http:
        body = {"model": "d-01", "messages": [{"role": "user", "content": "red"}], "max_tokens": 4}
        http.post("/v1/chat/completions", json=body).raise_for_status()
        until(lambda: http.get("/finery/v1/usage").json()["data"])


def measure(server: Server, rounds: int) -> tuple[float, dict[str, float]]:
    """Seconds to the first page after a sign-in, and the median of every page."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{server.url}/")
        page.fill("#key", server.key)
        began = time.perf_counter()
        page.get_by_role("button", name="Sign in").click()
        page.locator(PAGES["/"]).first.wait_for()
        first = time.perf_counter() - began
        seconds: dict[str, list[float]] = {path: [] for path in PAGES}
        for _ in range(rounds):
            for path, content in PAGES.items():
                began = time.perf_counter()
                page.goto(f"{server.url}/studio{path}", wait_until="commit")
                page.locator(content).first.wait_for()
                seconds[path].append(time.perf_counter() - began)
        browser.close()
    return first, {path: statistics.median(found) for path, found in seconds.items()}


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "models"
        folder.mkdir()
        sources.import_folder(folder, write_model(Path(scratch) / "raw", "phi3"), BASE)
        home = Path(scratch) / "home"
        home.mkdir()
        fill(home, folder)
        server = Server(home, folder).start()
        try:
            ask(server)
            first, pages = measure(server, arguments.rounds)
        finally:
            server.stop()
    print(f"first page after the sign-in: {first:.2f} s (at most {FIRST_PAGE_SECONDS})")
    for path, seconds in sorted(pages.items(), key=lambda item: -item[1]):
        print(f"{1000 * seconds:5.0f} ms{' OVER' if seconds > PAGE_SECONDS else ''}  {path}")
    print(json.dumps({"first_page_s": round(first, 3), "pages_s": {path: round(s, 3) for path, s in pages.items()}}))


if __name__ == "__main__":
    main()
