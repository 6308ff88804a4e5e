"""/finery/v1/sweeps: several sets of hyperparameters over the same rows."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsJobs, WritesJobs
from finery.api.context import Metadata, Plane, Sent, paging
from finery.api.openai import wire
from finery.control import replays, sweeps
from finery.control.jobs import JobRequest
from finery.control.plane import ControlPlane
from finery.core.errors import InvalidRequest
from finery.core.hyperparameters import KNOBS
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/finery/v1/sweeps", tags=["sweeps"])

SweepsCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]


class CreateSweep(BaseModel):
    """The body of a new sweep."""

    model_config = ConfigDict(extra="forbid")
    model: str
    training_file: str
    validation_file: str | None = None
    method: Literal["supervised", "dpo", "reinforcement"] = "supervised"
    hyperparameters: dict[str, Any] = {}
    """Knobs that all jobs share, OpenAI's and Finery's."""
    sets: list[dict[str, Any]] = []
    grid: dict[str, list[Any]] = {}
    early_stopping: bool = True
    suffix: str | None = None
    seed: int | None = None
    metadata: Metadata | None = None

    def request(self) -> JobRequest:
        """What all jobs of the sweep share."""
        unknown = sorted(set(self.hyperparameters) - set(KNOBS))
        if unknown:
            raise InvalidRequest(f"There is no knob {unknown[0]!r}.", param=f"hyperparameters.{unknown[0]}")
        return JobRequest(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file,
            suffix=self.suffix,
            seed=0 if self.seed is None else self.seed,
            method=self.method,
            options=self.hyperparameters,
            metadata=self.metadata,
        )


@router.post("")
def create(plane: Plane, caller: WritesJobs, sent: Sent, body: CreateSweep) -> dict[str, Any]:
    """Submit a job for each set."""

    def make() -> dict[str, Any]:
        made = sweeps.create(
            plane, caller, body.request(), sets=body.sets, grid=body.grid, early_stopping=body.early_stopping
        )
        return _sweep(plane, made)

    return replays.once(plane, caller, sent, body.model_dump(mode="json"), make)


@router.get("")
def list_sweeps(plane: Plane, caller: ReadsJobs, cursor: SweepsCursor) -> dict[str, Any]:
    """The project's sweeps, newest first."""
    return wire.page(sweeps.list_page(plane, caller, cursor), lambda found: _sweep(plane, found))


@router.get("/{sweep_id}")
def retrieve(plane: Plane, caller: ReadsJobs, sweep_id: str) -> dict[str, Any]:
    """One sweep with its table."""
    return _sweep(plane, sweeps.get(plane, caller, sweep_id))


@router.post("/{sweep_id}/cancel")
def cancel(plane: Plane, caller: WritesJobs, sweep_id: str) -> dict[str, Any]:
    """Stop a sweep and its jobs."""
    return _sweep(plane, sweeps.cancel(plane, caller, sweep_id))


def _sweep(plane: ControlPlane, record: Record) -> dict[str, Any]:
    body = record.body
    runs = sweeps.table(plane, record)
    best = next((run for run in runs if run["best"]), None)
    return {
        "id": record.id,
        "object": "sweep",
        "status": record.status,
        "model": body["model"],
        "training_file": body["training_file"],
        "validation_file": body["validation_file"],
        "early_stopping": body["early_stopping"],
        "runs": runs,
        "best_job": best["job_id"] if best else None,
        "best_model": best["fine_tuned_model"] if best else None,
        "metadata": record.metadata,
        "created_at": record.created_at,
        "finished_at": body.get("finished_at"),
    }
