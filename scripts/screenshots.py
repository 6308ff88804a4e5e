"""The pictures of docs/guide.md: walks the guide's whole way through the Studio with the starter model and the demo's
tickets, in a headless Chromium, and keeps a picture of each page in docs/guide/.

    make test-browser          # once: Chromium and playwright
    python scripts/screenshots.py

It needs minutes: the model is really trained. FINERY_MODELS says where base models are (default .cache/models).
"""

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "guide"
MODEL = "smollm2-135m-instruct"
MANAGED = ("new-project", "roles", "costs", "safety")
"""Pages beside the walk."""
SETTLE_MILLISECONDS = 500

sys.path.insert(0, str(ROOT / "tests"))
os.environ["FINERY_SHOTS"] = str(PICTURES)

from playwright.sync_api import sync_playwright  # noqa: E402

from browser.conftest import CHROMIUM, Person  # noqa: E402
from browser.walk import Plan, walk  # noqa: E402
from servers import Server  # noqa: E402


def prepare(server: Server) -> None:
    """Prices, a budget and somebody with a role: what pages under *Manage* show."""
    with server.http() as http:
        prices = {"training": 2.5, "hosting": 0.8, "input": 0.1, "output": 0.4}
        http.put("/finery/v1/prices/*", json=prices).raise_for_status()
        http.put("/finery/v1/budget", json={"limit": 50}).raise_for_status()
        http.post("/finery/v1/roles/principals", json={"name": "budi"}).raise_for_status()
        role = {"principal": "budi", "role": "Azure AI Developer", "project": "default"}
        http.post("/finery/v1/roles/assignments", json=role).raise_for_status()


def main() -> None:
    """Walk once."""
    models = Path(os.environ.get("FINERY_MODELS") or ROOT / ".cache" / "models")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        data = ROOT / "demo" / "support_tickets.train.jsonl"
        first = json.loads(data.read_text(encoding="utf-8").splitlines()[0])
        server = Server(Path(scratch) / "home", models).start()
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            person = Person(browser, server)
            person.patience = 1800
            prepare(server)
            person.sign_in()
            person.shoot("home")
            plan = Plan(
                model=MODEL,
                search="smollm2",
                data=data,
                learning_rate="1",
                epochs=1,
                question="Where is my parcel? It should have been here on Monday.",
                expected="orders-shipping",
                system=first["messages"][0]["content"],
            )
            walk(person, plan)
            for name in MANAGED:
                person.open(f"/{name}")
                person.page.wait_for_timeout(SETTLE_MILLISECONDS)
                person.shoot(name)
        finally:
            browser.close()
            server.stop()
    total = sum(path.stat().st_size for path in PICTURES.glob("*.png"))
    print(f"{len(list(PICTURES.glob('*.png')))} pictures, {total / 1e6:.2f} MB in {PICTURES}")


if __name__ == "__main__":
    main()
