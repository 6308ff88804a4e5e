"""What differs from Azure, as one table: `docs/azure-compatibility.md` is made from it, tests hold it to the routes.

python -m finery.api.azure.compatibility > docs/azure-compatibility.md
"""

from dataclasses import dataclass

from finery.api.azure import arm, ml
from finery.api.azure.projects import PROJECT


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """One part of Azure's surface."""

    path: str
    """Where its routes begin."""
    client: str
    """Whose package speaks to it."""
    differences: str


TABLE = (
    Support(
        path="/openai/v1",
        client="openai",
        differences="As `/v1`, with Azure's errors and fields. A model that has no deployment answers too.",
    ),
    Support(
        path="/openai/deployments/{deployment}",
        client="openai (AzureOpenAI), azure-ai-inference",
        differences="Chat, completions, embeddings; no audio, no images.",
    ),
    Support(
        path="/openai",
        client="openai (AzureOpenAI)",
        differences="Names of tuned models are OpenAI's: `ft:base:project:suffix:id`. `trainingType` is passed over: "
        "one's own machines have one. No `files/import`, no checkpoint `copy`, no delete of a job.",
    ),
    Support(
        path="/chat/completions",
        client="azure-ai-inference",
        differences="A request without `model` is for the project's only deployment.",
    ),
    Support(path="/embeddings", client="azure-ai-inference", differences="`input_type` changes nothing."),
    Support(path="/info", client="azure-ai-inference", differences="The project's only deployment."),
    Support(path="/models/", client="azure-ai-inference", differences="The three paths above once more."),
    Support(
        path=arm.ACCOUNT + "/deployments",
        client="azure-mgmt-cognitiveservices",
        differences="All skus are the same: one's own machines. Deleting is done when it is answered.",
    ),
    Support(
        path=arm.ACCOUNT + "/raiPolicies",
        client="azure-mgmt-cognitiveservices",
        differences="Filters that a policy leaves out are those of its base policy. No custom topics; `guard` (a guard "
        "model) is Finery's own field.",
    ),
    Support(
        path=arm.ACCOUNT,
        client="azure-mgmt-cognitiveservices",
        differences="The account is the hub of the key's project. `listKeys` gives back the key that was sent: of "
        "others only the digest is known. Accounts aren't made or deleted here.",
    ),
    Support(
        path=arm.SUBSCRIPTION,
        client="azure-mgmt-cognitiveservices",
        differences="Accounts, skus, models and usages of a location.",
    ),
    Support(
        path=arm.GROUP,
        client="azure-mgmt-cognitiveservices",
        differences="The key's account.",
    ),
    Support(
        path=PROJECT + "/openai/v1",
        client="azure-ai-projects (`get_openai_client()`)",
        differences="As `/openai/v1`.",
    ),
    Support(
        path=PROJECT + "/datasets",
        client="azure-ai-projects",
        differences="A version is one file; its `id` is the file's, which jobs take. Tags aren't kept.",
    ),
    Support(
        path=PROJECT,
        client="azure-ai-projects",
        differences="Deployments and connections; no agents, indexes, evaluators of its own, red teams, schedules.",
    ),
    Support(
        path="/blobs",
        client="azure-storage-blob",
        differences="Put whole or in blocks, get, head, at a signed address of a dataset; nothing else of storage.",
    ),
    Support(
        path=ml.WORKSPACE + "/jobs",
        client="azure-ai-ml",
        differences="Fine-tuning jobs alone. Data is a file's address or `azureml:DATASET:VERSION`, not a local path. "
        "`learning_rate` becomes a multiplier of the base model's own.",
    ),
    Support(
        path=ml.WORKSPACES,
        client="azure-ai-ml",
        differences="Workspaces and registered models are read; serverless endpoints are deployments.",
    ),
)

_HEAD = """# Differences from Azure

Made from `src/finery/api/azure/compatibility.py`; [azure.md](azure.md) says how to use it. On all of these paths a key
is sent as Azure's clients do it: `api-key: KEY` or `Authorization: Bearer KEY`. Errors have Azure's statuses, codes and
objects. Any `api-version` is taken that is one, and none as well.

| Path | Client | Differences |
|---|---|---|
"""


def page() -> str:
    """The page of differences, in Markdown."""
    return _HEAD + "".join(f"| `{part.path}` | {part.client} | {part.differences} |\n" for part in TABLE)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - this is its purpose
