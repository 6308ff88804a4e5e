"""Every page: no stored text runs as script, no serious accessibility fault, all by keyboard, own origin only."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Person
from servers import Server

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("FINERY_BROWSER"), reason="the Studio is walked by make test-browser"),
]

AXE = Path("node_modules/axe-core/axe.min.js")

PAYLOADS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<svg onload=\"document.title='owned'\">",
    "<svg><script>document.title='owned'</script></svg>",
    "\"><script>document.title='owned'</script>",
    "'><img src=x onerror=document.title='owned'>",
    "</script><script>document.title='owned'</script>",
    "</textarea><script>document.title='owned'</script>",
    "</title><script>document.title='owned'</script>",
    "javascript:document.title='owned'",
    "<a href=\"javascript:document.title='owned'\">x</a>",
    "<iframe srcdoc=\"<script>parent.document.title='owned'</script>\"></iframe>",
    "<iframe src=\"javascript:parent.document.title='owned'\"></iframe>",
    "<body onload=\"document.title='owned'\">",
    "<details open ontoggle=\"document.title='owned'\">",
    "<input autofocus onfocus=\"document.title='owned'\">",
    "<video><source onerror=\"document.title='owned'\"></video>",
    "<math><mtext></p><img src=x onerror=document.title='owned'></math>",
    "{{constructor.constructor(\"document.title='owned'\")()}}",
    "${document.title='owned'}",
    "`-document.title='owned'-`",
    "\\u003cscript\\u003edocument.title='owned'\\u003c/script\\u003e",
    "&lt;script&gt;document.title='owned'&lt;/script&gt;",
    "&#36;{document.title='owned'}",
    "<style>@import 'javascript:document.title=\"owned\"';</style>",
    "<object data=\"javascript:document.title='owned'\"></object>",
    "<embed src=\"javascript:document.title='owned'\">",
    "<form action=\"javascript:document.title='owned'\"><button autofocus>x</button></form>",
    "<base href=\"javascript:document.title='owned'//\">",
    "<meta http-equiv=refresh content=\"0;url=javascript:document.title='owned'\">",
)


def rows_of_payloads() -> bytes:
    """Training data in which every text is a payload."""
    rows = [
        {
            "messages": [
                {"role": "system", "content": payload},
                {"role": "user", "content": payload},
                {"role": "assistant", "content": payload},
            ],
            payload: payload,
        }
        for payload in PAYLOADS
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


@pytest.fixture(scope="module")
def stored(chromium: Any, server: Server) -> dict[str, str]:
    """Payloads in every text that the API keeps."""
    with server.http() as http:
        files = [
            http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (payload, rows_of_payloads())}).json()
            for payload in PAYLOADS
        ]
        for payload in PAYLOADS:
            http.post("/finery/v1/keys", json={"name": payload})
        for number, payload in enumerate(PAYLOADS):
            person = {"name": f"person-{number}", "subject": payload}
            http.post("/finery/v1/roles/principals", json=person).raise_for_status()
        bad = b'{"messages": [{"role": "<img src=x onerror=document.title=\'owned\'>", "content": "<script>"}]}'
        broken = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("bad.jsonl", bad)}).json()
        job = http.post(
            "/v1/fine_tuning/jobs",
            json={
                "model": "tiny-phi3",
                "training_file": files[0]["id"],
                "metadata": {"note": PAYLOADS[0]},
                "hyperparameters": {"n_epochs": 1},
            },
        ).json()
    return {"file": files[0]["id"], "broken": broken["id"], "job": job["id"]}


def addresses(stored: dict[str, str]) -> list[str]:
    return [
        "/",
        "/catalog",
        "/catalog/tiny-phi3",
        "/data",
        f"/data/{stored['file']}",
        f"/data/{stored['broken']}",
        "/fine-tune",
        "/fine-tuning",
        f"/fine-tuning/{stored['job']}",
        "/models",
        "/deploy",
        "/deployments",
        "/playground",
        "/evaluations",
        "/evaluate",
        "/safety",
        "/monitoring",
        "/projects",
        "/access",
        "/roles",
        "/costs",
        "/quotas",
        "/audit",
        "/doctor",
        "/nowhere",
        "/data/file-nothing",
    ]


def test_no_stored_text_is_ever_run(person: Person, stored: dict[str, str]) -> None:
    for path in addresses(stored):
        page = person.open(path)
        page.wait_for_timeout(150)
        assert page.title() != "owned", path
    foreign = [url for url in person.requests if not url.startswith((person.server.url, "data:", "blob:"))]
    assert not foreign


def test_no_typed_text_is_ever_run(person: Person, stored: dict[str, str]) -> None:
    page = person.open("/fine-tune")
    for payload in PAYLOADS:
        page.get_by_label("Name of the fine-tuned model").fill(payload)
        page.get_by_role("button", name="Next", exact=True).click()
        page.get_by_text("The name may hold").first.wait_for()
    page = person.open("/catalog")
    for payload in PAYLOADS:
        page.get_by_label("Search").fill(payload)
    page = person.open("/playground")
    page.get_by_label("Most tokens").fill("1")
    for payload in PAYLOADS[:6]:
        page.get_by_label("System prompt").fill(payload)
        page.get_by_label("Your message").fill(payload)
        page.get_by_role("button", name="Send", exact=True).click()
        page.wait_for_function("!document.querySelector('.ask button').disabled")
    page.get_by_role("button", name="Share as code").click()
    page.wait_for_timeout(200)
    assert page.title() != "owned"
    for query in PAYLOADS[:8]:
        page.goto(f"{person.server.url}/studio/catalog?q={query}")
        page.wait_for_selector("#content h1")
        assert page.title() != "owned"


def test_an_injected_script_is_stopped_by_the_policy(person: Person) -> None:
    page = person.open("/")
    page.evaluate(
        "() => { const s = document.createElement('div');"
        "s.innerHTML = `<img src=x onerror=\"document.title='owned'\">`; document.body.append(s); }"
    )
    page.wait_for_timeout(300)
    assert page.title() != "owned"
    assert any("Content Security Policy" in complaint for complaint in person.complaints)


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_serious_accessibility_fault(
    visit: Callable[..., Person], stored: dict[str, str], look: str, width: int
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core isn't here: make test-browser fetches it")
    person = visit(color_scheme=look, reduced_motion="reduce", bypass_csp=True)
    person.page.set_viewport_size({"width": width, "height": 800})
    person.page.goto(f"{person.server.url}/studio/sign-in")
    found = {"/sign-in": faults(person.page)}
    person.sign_in()
    for path in addresses(stored):
        found[path] = faults(person.open(path))
    assert {path: list(ids) for path, ids in found.items() if ids} == {}


def faults(page: Any) -> dict[str, list[str]]:
    """Serious and critical violations that axe finds, each with what it found them on."""
    page.wait_for_timeout(150)
    page.add_script_tag(path=AXE)
    result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    serious = [each for each in result["violations"] if each["impact"] in ("serious", "critical")]
    for each in serious:
        print(page.url, each["id"], [node["html"][:200] for node in each["nodes"][:3]])
    return {each["id"]: [node["html"] for node in each["nodes"]] for each in serious}


def test_the_keyboard_alone_reaches_everything(person: Person) -> None:
    page = person.open("/catalog/tiny-phi3")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("() => [document.activeElement.innerText, document.activeElement.ariaLabel].join(' ')")
        )
    for wanted in ("Skip to content", "Language", "Light or dark", "Sign out", "Playground", "Fine-tune"):
        assert any(wanted in text for text in seen), wanted
    page = person.open("/catalog/tiny-phi3")
    page.get_by_role("link", name="Fine-tune", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name of the fine-tuned model").wait_for()


def test_an_ended_session_says_so_and_comes_back(person: Person) -> None:
    page = person.open("/fine-tune?model=tiny-phi3")
    page.get_by_label("Name of the fine-tuned model").fill("half-typed")
    page.wait_for_timeout(500)
    other = person.context.new_page()
    other.goto(f"{person.server.url}/studio/")
    other.wait_for_selector("#content h1")
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_selector("#key")
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_text("Your session has ended").wait_for()
    page.locator(".q-dialog").get_by_role("button", name="Sign in").click()
    page.fill("#key", person.server.key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Name of the fine-tuned model").wait_for()
    assert page.get_by_label("Name of the fine-tuned model").input_value() == "half-typed"


def test_the_studio_speaks_indonesian(visit: Callable[..., Person]) -> None:
    person = visit(locale="id-ID")
    page = person.page
    page.goto(f"{person.server.url}/")
    page.fill("#key", person.server.key)
    page.get_by_role("button", name="Masuk").click()
    page.get_by_role("heading", name="Fine-tune model").wait_for()
    assert page.evaluate("document.documentElement.lang") == "id"
    assert "Koneksi terputus." in page.locator("#popup").text_content()
    person.open("/fine-tune")
    page.get_by_label("Nama model fine-tuned").wait_for()
