"""The unmodified `azure-ai-projects`: data goes up, a model is tuned and deployed, answers, and is deleted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azure_keys import KeyAsToken
from servers import Server, wait_for

pytest.importorskip("azure.ai.projects")

from azure.ai.projects import AIProjectClient
from azure.ai.projects.models import ConnectionType
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from azure.storage.blob import ContainerClient

ROWS = [
    {"messages": [{"role": "user", "content": f"red {i}"}, {"role": "assistant", "content": "blue"}]} for i in range(12)
]


@pytest.fixture(scope="module")
def project(tls_server: Server) -> Iterator[Any]:
    ca = str(tls_server.home / "tls" / "ca.pem")
    endpoint = f"{tls_server.url}/api/projects/default"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", ca)
        patch.setenv("SSL_CERT_FILE", ca)
        # Without retries: what fails at first and not again is a fault as well.
        with AIProjectClient(endpoint=endpoint, credential=KeyAsToken(tls_server.key), retry_total=0) as client:
            yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_from_data_to_answer_and_back(tls_server: Server, project: Any, data: Path) -> None:
    dataset = project.datasets.upload_file(name="tickets", version="1.0", file_path=str(data))
    assert (dataset.name, dataset.version) == ("tickets", "1.0")
    with project.get_openai_client(max_retries=0) as client:
        job = client.fine_tuning.jobs.create(
            model="tiny-phi3", training_file=dataset.id, hyperparameters={"n_epochs": 1}
        )
        job = wait_for(job, client, "succeeded", "failed", "cancelled")
        assert job.status == "succeeded", job.error
        management = CognitiveServicesManagementClient(KeyAsToken(tls_server.key), "default", base_url=tls_server.url)
        account = ("default", "default")
        body = {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": {"name": job.fine_tuned_model}}}
        management.deployments.begin_create_or_update(*account, "tuned", body).result()

        found = project.deployments.get("tuned")
        assert found.model_name == job.fine_tuned_model
        assert "tuned" in {one.name for one in project.deployments.list(model_name=job.fine_tuned_model)}
        assert client.responses.create(model="tuned", input="red 1", max_output_tokens=4).output_text is not None
        stream = client.chat.completions.create(
            model="tuned", messages=[{"role": "user", "content": "red 1"}], max_tokens=2, stream=True
        )
        assert [chunk for chunk in stream if chunk.choices]

        management.deployments.begin_delete(*account, "tuned").result()
        assert client.models.delete(job.fine_tuned_model).deleted


def test_versions_are_listed_read_and_forgotten(project: Any, data: Path) -> None:
    for version in ("2024-a", "2024-b"):
        data.write_text(data.read_text() + json.dumps(ROWS[0]) + "\n")
        project.datasets.upload_file(name="versions", version=version, file_path=str(data))
    assert [found.version for found in project.datasets.list_versions(name="versions")] == ["2024-b", "2024-a"]
    assert "versions" in {found.name for found in project.datasets.list()}
    address = project.datasets.get_credentials(name="versions", version="2024-b").blob_reference
    with ContainerClient.from_container_url(address.credential.sas_uri) as container:
        assert container.download_blob("rows.jsonl").readall() == data.read_bytes()
        assert container.download_blob("rows.jsonl", offset=3, length=5).readall() == data.read_bytes()[3:8]
        with pytest.raises(HttpResponseError):
            container.download_blob("rows.jsonl", offset=10**9, length=5).readall()
    with pytest.raises(HttpResponseError, match="has a version '2024-a' already"):
        project.datasets.upload_file(name="versions", version="2024-a", file_path=str(data))
    project.datasets.delete(name="versions", version="2024-a")
    with pytest.raises(ResourceNotFoundError):
        project.datasets.get(name="versions", version="2024-a")
    assert project.datasets.get(name="versions", version="2024-b").data_uri.endswith("rows.jsonl")


def test_a_folder_of_one_file_in_blocks(project: Any, data: Path) -> None:
    address = project.datasets.pending_upload(
        name="blocks", version="1", pending_upload_request={"pendingUploadType": "BlobReference"}
    ).blob_reference
    with ContainerClient.from_container_url(
        address.credential.sas_uri, max_single_put_size=64, max_block_size=256
    ) as container:
        container.upload_blob("folder/rows.jsonl", data.read_bytes())
    made = project.datasets.create_or_update(
        name="blocks", version="1", dataset_version={"type": "uri_folder", "dataUri": address.blob_uri}
    )
    with project.get_openai_client() as client:
        assert client.files.content(made.id).content == data.read_bytes()
        assert client.files.retrieve(made.id).status == "processed"


def test_connections_lead_back_here(tls_server: Server, project: Any) -> None:
    models = project.connections.get_default(ConnectionType.AZURE_OPEN_AI, include_credentials=True)
    assert models.target.rstrip("/") == tls_server.url
    assert models.credentials.api_key == tls_server.key
    assert {found.name for found in project.connections.list()} >= {models.name, "workspaceblobstore"}
    assert "key" not in project.connections.get(models.name).credentials
    with pytest.raises(ResourceNotFoundError):
        project.connections.get("nothing")


@pytest.mark.usefixtures("project")
def test_another_project_is_not_there(tls_server: Server) -> None:
    endpoint = f"{tls_server.url}/api/projects/other"
    client = AIProjectClient(endpoint=endpoint, credential=KeyAsToken(tls_server.key))
    with client, pytest.raises(ResourceNotFoundError):
        list(client.deployments.list())
    with tls_server.http() as http:
        assert http.get("/api/projects/other/openai/v1/files").status_code == 404


@pytest.mark.parametrize("damage", ["sig=", "se=2099-01-01T00%3A00%3A00Z&sig=", "nothing"])
def test_an_address_that_isnt_signed_takes_nothing(tls_server: Server, project: Any, damage: str) -> None:
    request = {"pendingUploadType": "BlobReference"}
    version = f"v{len(damage)}"
    made = project.datasets.pending_upload(name="forged", version=version, pending_upload_request=request)
    address = made.blob_reference.credential.sas_uri
    base, _, query = address.partition("?")
    signature = query.rpartition("sig=")[2]
    forged = {"sig=": query.replace(signature, "0" * 64), "nothing": ""}.get(damage, damage + signature)
    with tls_server.http() as http:
        for method in ("PUT", "GET", "HEAD"):
            answer = http.request(method, f"{base}/rows.jsonl?{forged}", content=b"{}" if method == "PUT" else None)
            assert answer.status_code == (403 if "sig=" in forged else 401)
        # A signature is for its own container alone.
        other = project.datasets.pending_upload(name="forged", version=f"{version}x", pending_upload_request=request)
        elsewhere = other.blob_reference.blob_uri
        assert http.put(f"{elsewhere}/rows.jsonl?{query}", content=b"{}").status_code == 403
    assert "forged" not in {found.name for found in project.datasets.list()}


@pytest.mark.parametrize("uri", ["", "/etc/passwd", "https://example.com/blobs/container-x/rows.jsonl", "/blobs/"])
def test_a_version_is_made_of_its_own_container_only(project: Any, uri: str) -> None:
    with pytest.raises(HttpResponseError) as refused:
        project.datasets.create_or_update(
            name="nothing", version="1", dataset_version={"type": "uri_file", "dataUri": uri}
        )
    assert refused.value.status_code in (400, 404)
