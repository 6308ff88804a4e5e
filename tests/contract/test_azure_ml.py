"""The unmodified `azure-ai-ml`: the program of docs/azure.md, and what else it can be asked.

It wants other versions of packages than ours, so it lives in `.venv-azure`, which `make azure-ml` makes.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from servers import Server

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("FINERY_AZURE_ML_PYTHON", ROOT / ".venv-azure" / "bin" / "python"))
PAGE = (ROOT / "docs" / "azure.md").read_text()
ROWS = '{"messages": [{"role": "user", "content": "red %d"}, {"role": "assistant", "content": "blue"}]}\n'

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="azure-ai-ml is not here; `make azure-ml` brings it")

MORE = """
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

assert job.status == "Completed", job.properties
assert ml.workspaces.get("default").name == "default"
assert job.name in {found.name for found in ml.jobs.list()}
assert [model.version for model in ml.models.list("support")] == ["1"]

def finetune(name, **changes):
    return CustomModelFineTuningJob(**{
        "name": name,
        "task": "chatCompletion",
        "model": Input(type="mlflow_model", path=f"azureml://registries/azureml/models/{MODEL}/versions/1"),
        "training_data": Input(type="uri_file", path=f"{URL}/v1/files/{FILE}/content"),
        "hyperparameters": {"num_train_epochs": "50"},
        "outputs": {"registered_model": {"type": "mlflow_model", "name": "other"}},
        **changes,
    })

ml.jobs.create_or_update(finetune("cancelled-1"))
ml.jobs.begin_cancel("cancelled-1").result()
assert ml.jobs.get("cancelled-1").status == "Canceled"

def refused(job):
    try:
        ml.jobs.create_or_update(job)
    except HttpResponseError as error:
        return error.status_code, error.error.code, str(error)
    raise AssertionError("it was taken")

assert refused(finetune("support-1", hyperparameters={"num_train_epochs": "2"}))[:2] == (409, "Conflict")
assert "textTranslation" in refused(finetune("task-1", task="textTranslation"))[2]
assert "gpt-nothing" in refused(finetune("model-1", model=Input(type="mlflow_model", path="azureml://registries/azureml/models/gpt-nothing/versions/1")))[2]
assert "warp" in refused(finetune("knob-1", hyperparameters={"warp": "9"}))[2]
assert "no data" in refused(finetune("data-1", training_data=Input(type="uri_file", path="https://example.com/a.jsonl")))[2]
try:
    ml.serverless_endpoints.get("nothing")
except ResourceNotFoundError as error:
    assert error.error.code == "ResourceNotFound"
print("all of it")
"""


def test_the_program_of_the_page_and_more(tls_server: Server, tmp_path: Path) -> None:
    with tls_server.http() as http:
        rows = "".join(ROWS % i for i in range(12))
        file = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", rows)}).json()["id"]
    (key,) = re.findall(r"```python\n(from azure.core.credentials import AccessToken.*?)```", PAGE, flags=re.DOTALL)
    (program,) = re.findall(r"```python azure-ai-ml\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {"URL": tls_server.url, "KEY": tls_server.key, "MODEL": "tiny-phi3", "FILE": file}
    path = tmp_path / "program.py"
    path.write_text("\n".join(f"{name} = {value!r}" for name, value in names.items()) + "\n" + key + program + MORE)
    ca = str(tls_server.home / "tls" / "ca.pem")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "REQUESTS_CA_BUNDLE": ca, "SSL_CERT_FILE": ca}
    done = subprocess.run([PYTHON, path], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("all of it\n")
    assert "ft:tiny-phi3:default:support:" in done.stdout
