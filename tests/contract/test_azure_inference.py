"""The unmodified `azure-ai-inference` against every address it can be given."""

from collections.abc import Iterator
from typing import Any

import pytest

from servers import Server, deploy

pytest.importorskip("azure.ai.inference")

from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, load_client
from azure.ai.inference.models import JsonSchemaFormat, SystemMessage, UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

QUESTION: Any = [SystemMessage("Name the colour."), UserMessage("red")]
CERTAIN: Any = {"temperature": 0, "max_tokens": 4}


def client(server: Server, path: str = "", **options: Any) -> Any:
    return ChatCompletionsClient(f"{server.url}{path}", AzureKeyCredential(server.key), **options)


@pytest.fixture(scope="module", autouse=True)
def deployment(tls_server: Server) -> Iterator[str]:
    """The project's only deployment."""
    name = "inference-colours"
    with tls_server.http() as http:
        deploy(http, name, "tiny-phi3")
        yield name
        http.delete(f"/finery/v1/deployments/{name}").raise_for_status()


@pytest.fixture(scope="module", autouse=True)
def trusted(tls_server: Server) -> Iterator[None]:
    """As a user does it: the authority in an environment variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(tls_server.home / "tls" / "ca.pem"))
        yield


@pytest.mark.parametrize("path", ["", "/models", "/openai/deployments/inference-colours"])
def test_chat_plain_and_streamed_at_every_address(tls_server: Server, path: str) -> None:
    with client(tls_server, path) as chat:
        plain = chat.complete(messages=QUESTION, **CERTAIN)
        stream = chat.complete(messages=QUESTION, stream=True, **CERTAIN)
        text = "".join(update.choices[0].delta.content or "" for update in stream if update.choices)
        assert text == plain.choices[0].message.content
        assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens
        assert chat.get_model_info().model_name == "tiny-phi3"


def test_a_model_can_be_named_and_json_asked_for(tls_server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    with client(tls_server) as chat:
        answer = chat.complete(
            messages=QUESTION,
            model="tiny-phi3",
            temperature=0,
            max_tokens=60,
            response_format=JsonSchemaFormat(name="a", schema=schema, strict=True),
        )
    assert answer.choices[0].message.content.lstrip().startswith("{")


def test_load_client_finds_out_what_is_there(tls_server: Server) -> None:
    with load_client(tls_server.url, AzureKeyCredential(tls_server.key)) as chat:
        assert isinstance(chat, ChatCompletionsClient)
        assert chat.complete(messages=QUESTION, max_tokens=1).choices


def test_embeddings(tls_server: Server) -> None:
    with EmbeddingsClient(tls_server.url, AzureKeyCredential(tls_server.key)) as embeddings:
        found = embeddings.embed(input=["red", "blue"], input_type="query")
    assert found.id
    assert [item.index for item in found.data] == [0, 1]
    assert len(found.data[0].embedding) == 128


def test_further_parameters_go_through_or_are_refused(tls_server: Server) -> None:
    with client(tls_server) as chat:
        assert chat.complete(messages=QUESTION, model_extras={"wish": 1}, max_tokens=1).choices
        with pytest.raises(HttpResponseError, match="wish"):
            chat.complete({"messages": [{"role": "user", "content": "red"}], "wish": 1})


def test_errors_reach_the_client_as_its_own(tls_server: Server) -> None:
    with client(tls_server) as chat:
        with pytest.raises(ResourceNotFoundError) as missing:
            chat.complete(messages=QUESTION, model="nothing")
        assert missing.value.error.code == "DeploymentNotFound"
        with pytest.raises(HttpResponseError) as wrong:
            chat.complete(messages=[])
        assert wrong.value.error.code == "invalidPayload"
    stranger = ChatCompletionsClient(tls_server.url, AzureKeyCredential("nobody"))
    with stranger, pytest.raises(ClientAuthenticationError) as refused:
        stranger.complete(messages=QUESTION)
    assert refused.value.error.code == "401"
