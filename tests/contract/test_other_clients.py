"""Programs that know nothing of Finery work by setting only the base URL: llm, litellm, and a flow of prompt flow.

Their needs conflict with ours, so each runs in a Python of its own, made by `make clients`; without one the test is
skipped and says so.
"""

import json
import shutil
from pathlib import Path

import pytest

from clients import ROOT, python_with, run
from servers import Server

MODEL = "tiny-phi3"

pytestmark = pytest.mark.slow

DRIVE_A_FLOW = """
import json, sys
from promptflow.client import PFClient

if __name__ == "__main__":  # rows are run in processes of their own
    client, flow = PFClient(), sys.argv[1]
    one = client.test(flow=flow, inputs={"ticket": "The invoice was charged twice."})
    run = client.run(flow=flow, data=f"{flow}/tickets.jsonl", column_mapping={"ticket": "${data.ticket}"})
    details = client.get_details(run)
    told = {"one": one, "status": run.status, "rows": len(details)}
    print(json.dumps(told | {"teams": list(details["outputs.team"]), "replies": list(details["outputs.reply"])}))
"""


def test_litellm(server: Server, tmp_path: Path) -> None:
    program = f"""
import json, litellm
asked = dict(model="openai/{MODEL}", messages=[{{"role": "user", "content": "the red ticket"}}], max_tokens=6)
whole = litellm.completion(**asked, temperature=0)
pieces = list(litellm.completion(**asked, temperature=0, stream=True))
print(json.dumps([whole.choices[0].message.content, whole.usage.completion_tokens,
                  "".join(p.choices[0].delta.content or "" for p in pieces)]))
"""
    out = run(
        python_with("litellm"), program, home=tmp_path, OPENAI_BASE_URL=f"{server.url}/v1", OPENAI_API_KEY=server.key
    )
    text, tokens, streamed = json.loads(out.splitlines()[-1])
    assert tokens == 6
    assert text
    assert streamed == text


def test_llm(server: Server, tmp_path: Path) -> None:
    python = python_with("llm")
    folder = tmp_path / "llm"
    folder.mkdir()
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: finery\n  model_name: {MODEL}\n  api_base: {server.url}/v1\n  api_key_name: finery\n"
    )
    (folder / "keys.json").write_text(json.dumps({"finery": server.key}))
    asked = ("-m", "llm", "-m", "finery", "the red ticket", "-o", "max_tokens", "6", "-o", "temperature", "0")
    streamed = run(python, "", *asked, home=tmp_path, LLM_USER_PATH=str(folder))
    whole = run(python, "", *asked, "--no-stream", home=tmp_path, LLM_USER_PATH=str(folder))
    assert streamed.strip()
    assert streamed == whole


def test_a_prompt_flow(server: Server, tmp_path: Path) -> None:
    python = python_with("promptflow")
    settings = tmp_path / ".promptflow"
    settings.mkdir()
    # Nothing is told to anybody, and no service of its own is left behind.
    (settings / "pf.yaml").write_text("telemetry:\n  enabled: false\ntrace:\n  destination: none\n")
    flow = shutil.copytree(ROOT / "examples" / "promptflow", tmp_path / "flow")
    program = tmp_path / "drive.py"
    program.write_text(DRIVE_A_FLOW)
    out = run(
        python,
        "",
        str(program),
        str(flow),
        home=tmp_path,
        FINERY_BASE_URL=f"{server.url}/v1",
        FINERY_API_KEY=server.key,
        FINERY_DEPLOYMENT=MODEL,
    )
    found = json.loads(out.splitlines()[-1])
    assert found["status"] == "Completed"
    assert found["rows"] == 3
    assert set(found["teams"]) <= {"billing", "delivery", "technical"}
    assert all(found["replies"])
    assert set(found["one"]) == {"team", "said", "reply"}
