"""A thin synchronous client of a Finery server: what the command line needs, over httpx. Knows no database, no torch.

Programs are better served by the `openai` SDK pointed at `<server>/v1`; this client adds what OpenAI's API has no
word for (deployments, keys, reports) and finds the server of this machine by itself.

    with Finery() as finery:                      # the local server, or FINERY_BASE_URL and FINERY_API_KEY
        file = finery.files.wait(finery.files.upload(Path("tickets.jsonl"))["id"])
        job = finery.jobs.create("smollm2-135m-instruct", file["id"])
        for event in finery.jobs.follow(job["id"]):
            print(event["message"])

Objects are the plain JSON of the wire (`Json`); lists come newest first, as the server gives them.

    connection.py   which server, which key
    wire.py         requests in, JSON or errors out
    resources.py    files, datasets, jobs, models, chat, deployments, evaluations, promotions, sweeps, keys
    exports.py     models written for other programs
    monitoring.py  metrics, drift, capture
    tenancy.py      projects, providers, roles, costs
    safety.py       policies, protected works
"""

from pathlib import Path
from typing import Self

from finery.sdk.connection import Connection, default_home, locate
from finery.sdk.exports import Exports
from finery.sdk.monitoring import Monitoring
from finery.sdk.resources import (
    SETTLED,
    Chat,
    ChatDelta,
    Datasets,
    Deployments,
    Evaluations,
    Files,
    Jobs,
    Keys,
    Models,
    Promotions,
    Sweeps,
)
from finery.sdk.safety import Policies, ProtectedWorks
from finery.sdk.tenancy import Costs, Projects, Providers, Roles
from finery.sdk.wire import ApiError, Json, Wire

__all__ = ["SETTLED", "ApiError", "ChatDelta", "Connection", "Finery", "Json", "default_home", "locate"]


class Finery:
    """A connection to one server; close it, or use it in a `with` statement.

    Raises:
        InvalidRequest, Unavailable, Unauthenticated: as `locate` does, when no server or key can be found.
    """

    def __init__(self, base_url: str | None = None, api_key: str | None = None, *, home: Path | None = None) -> None:
        self.connection = locate(base_url, api_key, home)
        self._wire = Wire(self.connection)
        self.files = Files(self._wire)
        self.datasets = Datasets(self._wire)
        self.jobs = Jobs(self._wire)
        self.models = Models(self._wire)
        self.chat = Chat(self._wire)
        self.deployments = Deployments(self._wire)
        self.exports = Exports(self._wire)
        self.monitoring = Monitoring(self._wire)
        self.evaluations = Evaluations(self._wire)
        self.promotions = Promotions(self._wire)
        self.sweeps = Sweeps(self._wire)
        self.keys = Keys(self._wire)
        self.projects = Projects(self._wire)
        self.providers = Providers(self._wire)
        self.roles = Roles(self._wire)
        self.costs = Costs(self._wire)
        self.policies = Policies(self._wire)
        self.protected_works = ProtectedWorks(self._wire)

    def close(self) -> None:
        """Close the connections."""
        self._wire.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
