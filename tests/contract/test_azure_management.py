"""The unmodified `azure-mgmt-cognitiveservices`, nothing but its address changed, makes and deletes deployments."""

from collections.abc import Iterator
from typing import Any

import pytest

from azure_keys import KeyAsToken
from servers import Server, deploy

pytest.importorskip("azure.mgmt.cognitiveservices")

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient

GROUP, ACCOUNT = "default", "default"


def management(server: Server, key: str = "") -> Any:
    return CognitiveServicesManagementClient(
        KeyAsToken(key or server.key), "default", base_url=server.url, retry_total=0
    )


@pytest.fixture(scope="module")
def client(tls_server: Server) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, management(tls_server) as found:
        patch.setenv("REQUESTS_CA_BUNDLE", str(tls_server.home / "tls" / "ca.pem"))
        yield found


def body(model: str, capacity: int = 5) -> dict[str, Any]:
    return {
        "sku": {"name": "GlobalStandard", "capacity": capacity},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }


def test_a_deployment_is_made_changed_listed_asked_and_deleted(tls_server: Server, client: Any) -> None:
    made = client.deployments.begin_create_or_update(GROUP, ACCOUNT, "managed", body("tiny-phi3")).result()
    assert made.properties.provisioning_state == "Succeeded"
    assert made.id.endswith("/accounts/default/deployments/managed")
    assert (made.sku.name, made.sku.capacity) == ("GlobalStandard", 5)
    with tls_server.http() as http:
        chat = {"messages": [{"role": "user", "content": "red"}], "max_tokens": 1}
        path = "/openai/deployments/managed/chat/completions?api-version=2024-10-21"
        assert http.post(path, json=chat).json()["model"] == "managed"
    again = client.deployments.begin_create_or_update(GROUP, ACCOUNT, "managed", body("tiny-phi3", 7)).result()
    assert again.sku.capacity == 7
    patched = client.deployments.begin_update(GROUP, ACCOUNT, "managed", {"sku": {"name": "Standard", "capacity": 3}})
    assert patched.result().sku.capacity == 3
    assert "managed" in {found.name for found in client.deployments.list(GROUP, ACCOUNT)}
    assert {sku.sku.name for sku in client.deployments.list_skus(GROUP, ACCOUNT, "managed")} >= {"Standard"}
    used = {usage.name.value: usage.current_value for usage in client.accounts.list_usages(GROUP, ACCOUNT).value}
    assert used["OpenAI.Standard"] >= 3
    client.deployments.begin_delete(GROUP, ACCOUNT, "managed").result()
    with pytest.raises(ResourceNotFoundError) as gone:
        client.deployments.get(GROUP, ACCOUNT, "managed")
    assert gone.value.error.code == "ResourceNotFound"
    client.deployments.begin_delete(GROUP, ACCOUNT, "managed").result()


def test_accounts_models_skus_and_usages(tls_server: Server, client: Any) -> None:
    account = client.accounts.get(GROUP, ACCOUNT)
    assert account.properties.endpoint.rstrip("/") == tls_server.url
    assert account.id in {found.id for found in client.accounts.list()}
    assert [found.name for found in client.accounts.list_by_resource_group(GROUP)] == [ACCOUNT]
    assert client.accounts.list_keys(GROUP, ACCOUNT).key1 == tls_server.key
    assert "tiny-phi3" in {model.name for model in client.accounts.list_models(GROUP, ACCOUNT)}
    location = account.location
    assert "tiny-phi3" in {found.model.name for found in client.models.list(location)}
    assert {usage.name.value for usage in client.usages.list(location)} >= {"OpenAI.Standard"}
    assert location in next(iter(client.resource_skus.list())).locations
    assert client.accounts.list_skus(GROUP, ACCOUNT).value


def test_content_filter_policies_are_made_bound_and_deleted(tls_server: Server, client: Any) -> None:
    built_in = {found.name: found for found in client.rai_policies.list(GROUP, ACCOUNT)}
    assert built_in["default"].properties.type == "SystemManaged"
    wanted = {
        "properties": {
            "mode": "Asynchronous_filter",
            "basePolicyName": "Microsoft.DefaultV2",
            "contentFilters": [
                {
                    "name": "Selfharm",
                    "source": "Completion",
                    "severityThreshold": "Low",
                    "blocking": True,
                    "enabled": True,
                }
            ],
        }
    }
    made = client.rai_policies.create_or_update(GROUP, ACCOUNT, "gentle", wanted)
    assert (made.properties.type, made.properties.mode) == ("UserManaged", "Asynchronous_filter")
    asked, *_ = made.properties.content_filters
    assert (asked.name, asked.source, asked.severity_threshold) == ("Selfharm", "Completion", "Low")
    # What it leaves out is as in its base: nothing is switched off by silence.
    assert len(made.properties.content_filters) == len(built_in["default"].properties.content_filters)
    deployed = body("tiny-phi3")
    deployed["properties"]["raiPolicyName"] = "gentle"
    client.deployments.begin_create_or_update(GROUP, ACCOUNT, "filtered", deployed).result()
    assert client.deployments.get(GROUP, ACCOUNT, "filtered").properties.rai_policy_name == "gentle"
    with pytest.raises(HttpResponseError) as refused:
        client.rai_policies.begin_delete(GROUP, ACCOUNT, "gentle").result()
    assert "filtered" in refused.value.message
    client.deployments.begin_delete(GROUP, ACCOUNT, "filtered").result()
    client.rai_policies.begin_delete(GROUP, ACCOUNT, "gentle").result()
    with pytest.raises(ResourceNotFoundError):
        client.rai_policies.get(GROUP, ACCOUNT, "gentle")
    wanted["properties"]["basePolicyName"] = "none"
    with pytest.raises(HttpResponseError, match="none"):
        client.rai_policies.create_or_update(GROUP, ACCOUNT, "gentle", wanted)


def test_what_azures_client_cant_say_of_a_policy_stays(tls_server: Server, client: Any) -> None:
    guard = {"kind": "llama_guard", "deployment": "judge", "model": None, "timeout_seconds": 7.0}
    with tls_server.http() as http:
        deploy(http, "judge", "tiny-phi3")
        kept = {"guard": guard, "on_filter_error": "annotate"}
        http.put("/finery/v1/policies/guarded", json=kept).raise_for_status()
        client.rai_policies.create_or_update(GROUP, ACCOUNT, "guarded", {"properties": {"mode": "Default"}})
        found = http.get("/finery/v1/policies/guarded").json()
        assert {name: found[name] for name in kept} == kept
        address = f"/subscriptions/default/resourceGroups/{GROUP}/providers/Microsoft.CognitiveServices/accounts"
        sent = http.put(
            f"{address}/{ACCOUNT}/raiPolicies/guarded?api-version=2025-06-01",
            json={"properties": {"mode": "Default", "guard": None, "onFilterError": "block"}},
        )
        assert sent.status_code == 200, sent.text
        found = http.get("/finery/v1/policies/guarded").json()
        assert (found["guard"], found["on_filter_error"]) == (None, "block")
        http.delete("/finery/v1/policies/guarded").raise_for_status()
        http.delete("/finery/v1/deployments/judge").raise_for_status()


def test_what_cant_be_is_refused_in_azures_words(tls_server: Server, client: Any) -> None:
    def make(name: str, wanted: dict[str, Any], account: str = ACCOUNT) -> Any:
        with pytest.raises(HttpResponseError) as refused:
            client.deployments.begin_create_or_update(GROUP, account, name, wanted)
        return refused.value

    unknown = make("unknown", body("gpt-nothing"))
    assert (unknown.status_code, unknown.error.code) == (400, "DeploymentModelNotSupported")
    assert "gpt-nothing" in unknown.message
    assert make("some$name", body("tiny-phi3")).error.code == "InvalidRequestContent"
    assert make("much", body("tiny-phi3", 10**9)).error.code == "InvalidRequestContent"
    with tls_server.http() as http:
        made = http.post("/finery/v1/hubs", json={"name": "other", "resource_group": "default", "location": "local"})
        assert made.is_success, made.text
    # There is such a hub, but the key's project isn't in it.
    assert make("nowhere", body("tiny-phi3"), account="other").error.code == "ResourceNotFound"
    assert list(client.accounts.list_by_resource_group("elsewhere")) == []
    with pytest.raises(ResourceNotFoundError):
        client.accounts.get("elsewhere", ACCOUNT)
    with pytest.raises(ResourceNotFoundError):
        list(client.models.list("mars"))
    with management(tls_server, key="nobody") as stranger, pytest.raises(ClientAuthenticationError) as refused:
        stranger.accounts.get(GROUP, ACCOUNT)
    assert refused.value.error.code == "AuthenticationFailed"
    assert "unknown" not in {found.name for found in client.deployments.list(GROUP, ACCOUNT)}


def test_what_is_no_version_is_refused(tls_server: Server) -> None:
    with tls_server.http() as http:
        answer = http.get("/subscriptions/default/providers/Microsoft.CognitiveServices/accounts?api-version=now")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "InvalidApiVersionParameter"
