"""A real identity provider, npm's certified `oidc-provider`: the unmodified SDKs with its tokens in place of keys.

`make oidc` brings the provider. Every way to be refused is in `test_bearer_tokens` and `unit/control/test_identity`.
"""

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from finery.cli.app import app
from oidc_provider import AUDIENCE, HERE, Provider
from servers import Server

HELLO: Any = [{"role": "user", "content": "the red ticket"}]
ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'

pytestmark = HERE


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    running = Provider(tmp_path_factory.mktemp("provider") / "log").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def trusting(provider: Provider, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    """A server that takes the provider's tokens."""
    home = tmp_path_factory.mktemp("trusting") / "home"
    settings = {"FINERY_OIDC_ISSUER": provider.url, "FINERY_OIDC_AUDIENCE": AUDIENCE}
    running = Server(home, tiny_folder, **settings).start()
    with running.http() as http:
        for project in ("alpha", "beta"):
            http.post("/finery/v1/projects", json={"name": project}).raise_for_status()
    yield running
    running.stop()


def finery(server: Server, *command: str) -> str:
    """What the admin's command line says."""
    environment = {"FINERY_BASE_URL": server.url, "FINERY_API_KEY": server.key}
    done = CliRunner().invoke(app, list(command), env=environment)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def nightly(trusting: Server, provider: Provider) -> str:
    """The id of a role in alpha, given by typing what the refusal says."""
    client = trusting.openai(api_key=provider.token("nightly"))
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.models.list()
    assert refused.value.code == "unknown_subject"
    _, make, give = str(refused.value.body["message"]).split("finery ")  # type: ignore[index]
    make = make.removesuffix(", then ").replace("NAME", "nightly") + " --service-principal"
    assert "Created nightly" in finery(trusting, *shlex.split(make))
    given = finery(trusting, *shlex.split(give.replace("NAME", "nightly").replace("PROJECT", "alpha")))
    assert "nightly is Azure AI Developer in the project alpha" in given
    return given.rsplit("(", 1)[1].strip(" )\n")


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_openais_sdk_with_a_token(trusting: Server, provider: Provider, nightly: str, algorithm: str) -> None:
    client = trusting.openai(api_key=provider.token("nightly", algorithm))
    assert "tiny-phi3" in {model.id for model in client.models.list()}


def test_the_sdks_go_their_way_with_a_token(trusting: Server, provider: Provider, nightly: str) -> None:
    client = trusting.openai(api_key=provider.token("nightly"))
    file = client.files.create(file=("rows.jsonl", ROW * 12), purpose="fine-tune")
    assert [found.id for found in client.files.list()] == [file.id]
    asked: Any = {"model": "tiny-phi3", "messages": HELLO, "max_tokens": 4, "temperature": 0}
    text = client.chat.completions.create(**asked).choices[0].message.content
    for credential in (
        {"azure_ad_token": provider.token("nightly")},
        {"azure_ad_token_provider": lambda: provider.token("nightly")},
    ):
        azure = openai.AzureOpenAI(
            azure_endpoint=trusting.url,
            api_version="2024-10-21",
            max_retries=0,
            **credential,  # type: ignore[arg-type]
        )
        assert azure.chat.completions.create(**asked).choices[0].message.content == text
        assert file.id in {found.id for found in azure.files.list()}
    assert client.files.delete(file.id).deleted
    with trusting.http() as http:
        newest = http.get("/finery/v1/audit", params={"limit": 1}).json()["data"][0]
        people = {one["id"]: one["name"] for one in http.get("/finery/v1/roles/principals").json()["data"]}
    assert people.get(newest["principal_id"]) == "nightly", newest
    assert newest["key_id"] == ""


def test_two_projects_never_see_each_other(trusting: Server, provider: Provider, nightly: str) -> None:
    finery(trusting, "principals", "create", "other", "--subject", "other", "--service-principal")
    finery(trusting, "roles", "assign", "other", "Contributor", "--project", "beta")
    mine = trusting.openai(api_key=provider.token("nightly"))
    theirs = trusting.openai(api_key=provider.token("other"))
    file = mine.files.create(file=("rows.jsonl", ROW * 12), purpose="fine-tune")
    assert list(theirs.files.list()) == []
    with pytest.raises(openai.NotFoundError):
        theirs.files.retrieve(file.id)
    entering = trusting.openai(api_key=provider.token("other"), project="alpha")
    with pytest.raises(openai.NotFoundError):
        entering.files.list()
    finery(trusting, "roles", "assign", "other", "Reader", "--project", "alpha")
    assert file.id in {found.id for found in entering.files.list()}
    with pytest.raises(openai.BadRequestError, match="alpha, beta"):
        theirs.files.list()


def test_a_token_for_somebody_else_is_refused(trusting: Server, provider: Provider, nightly: str) -> None:
    with pytest.raises(openai.AuthenticationError, match="for somebody else"):
        trusting.openai(api_key=provider.token("nightly", audience="https://elsewhere.example/api")).models.list()


def test_taking_a_role_back_is_at_once(trusting: Server, provider: Provider, nightly: str) -> None:
    finery(trusting, "principals", "create", "stranger", "--subject", "stranger")
    given = finery(trusting, "roles", "assign", "stranger", "Reader", "--project", "beta")
    client = trusting.openai(api_key=provider.token("stranger"))
    assert list(client.files.list()) == []
    finery(trusting, "roles", "remove", given.rsplit("(", 1)[1].strip(" )\n"))
    with pytest.raises(openai.PermissionDeniedError, match="has no role"):
        client.files.list()


def test_a_provider_that_is_away_and_one_that_comes_back_with_new_keys(
    trusting: Server, provider: Provider, nightly: str
) -> None:
    old = trusting.openai(api_key=provider.token("nightly"))
    old.models.list()
    provider.stop()
    try:
        old.models.list()
    finally:
        provider.start()
    # Its keys are new, and are found without a restart; asking for them is limited, so it may take ten seconds.
    new = trusting.openai(api_key=provider.token("nightly"))
    end = time.monotonic() + 60
    while True:
        try:
            new.models.list()
            break
        except openai.AuthenticationError:
            assert time.monotonic() < end
            time.sleep(0.5)
    with pytest.raises(openai.AuthenticationError, match="has no key"):
        old.models.list()
