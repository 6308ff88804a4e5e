"""`finery jobs`: look at fine-tuning jobs, follow, cancel, pause and resume them, fetch their results."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from finery.cli import files, training
from finery.cli.console import fields, out, plain, say, say_json, table
from finery.cli.figures import ago, count, moment
from finery.cli.options import ApiKey, AsJson, BaseUrl, Limit, connect, noun
from finery.core.errors import NotFound
from finery.core.hyperparameters import KNOBS

app = noun("Fine-tuning jobs and their results.")

JobId = Annotated[str, typer.Argument(metavar="JOB_ID", show_default=False, help="Id of the job: ftjob-…")]


@app.command("list")
def list_(limit: Limit = 20, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    with connect(base_url, api_key) as finery:
        jobs = list(finery.jobs.list(limit=limit))
    if as_json:
        say_json(jobs)
        return
    rows = [(j["id"], j["status"], j.get("fine_tuned_model") or j["model"], ago(j["created_at"])) for j in jobs]
    table(("ID", "STATUS", "MODEL", "CREATED"), rows, "No jobs yet: finery tune DATA.jsonl --model MODEL")


@app.command("show")
def show(job_id: JobId, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a job."""
    with connect(base_url, api_key) as finery:
        job = finery.jobs.retrieve(job_id)
    if as_json:
        say_json(job)
        return
    error = job.get("error") or {}
    method = job.get("method") or {}
    fields(
        (
            ("Id", job["id"]),
            ("Name", (job.get("metadata") or {}).get("name")),
            ("Status", job["status"]),
            ("Error", error.get("message")),
            ("Model", job["model"]),
            ("Tuned model", job.get("fine_tuned_model")),
            ("Method", method.get("type")),
            ("Hyperparameters", _assignments((method.get(method.get("type")) or {}).get("hyperparameters") or {})),
            ("Changed knobs", _assignments(_changed(job))),
            ("Seed", job.get("seed")),
            ("Training file", job["training_file"]),
            ("Validation file", job.get("validation_file")),
            ("Result files", ", ".join(job.get("result_files") or [])),
            ("Trained tokens", count(job.get("trained_tokens"))),
            ("Created", moment(job["created_at"])),
            ("Finish expected", moment(job.get("estimated_finish"))),
            ("Finished", moment(job.get("finished_at"))),
        )
    )


@app.command("follow")
def follow(job_id: JobId, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Look on while a job runs.

    Shows its events as they come, until it ends. Ctrl-C stops looking on, not the job.
    """
    with connect(base_url, api_key) as finery:
        job, history = training.follow(finery, job_id)
    training.require_success(job)
    training.report(job, history)


@app.command("cancel")
def cancel(job_id: JobId, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Stop a job for good."""
    with connect(base_url, api_key) as finery:
        say(f"{job_id} is {finery.jobs.cancel(job_id)['status']}.")


@app.command("pause")
def pause(job_id: JobId, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Stop a job so that it can be resumed."""
    with connect(base_url, api_key) as finery:
        say(f"{job_id} is {finery.jobs.pause(job_id)['status']}.")


@app.command("resume")
def resume(job_id: JobId, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Let a paused job go on."""
    with connect(base_url, api_key) as finery:
        say(f"{job_id} is {finery.jobs.resume(job_id)['status']}.")


@app.command("events")
def events(
    job_id: JobId, limit: Limit = 50, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Show a job's last events."""
    with connect(base_url, api_key) as finery:
        newest_first = list(finery.jobs.events(job_id, limit=limit))
    if as_json:
        say_json(newest_first)
        return
    console = out()
    for event in reversed(newest_first):
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["created_at"]))
        level = "" if event.get("level") == "info" else f"{event.get('level')}: "
        console.print(f"{clock}  {plain(level + event['message'])}", soft_wrap=True)


@app.command("checkpoints")
def checkpoints(
    job_id: JobId, limit: Limit = 20, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List checkpoints that can be deployed."""
    with connect(base_url, api_key) as finery:
        found = list(finery.jobs.checkpoints(job_id, limit=limit))
    if as_json:
        say_json(found)
        return
    rows = []
    for checkpoint in found:
        metrics = checkpoint.get("metrics") or {}
        rows.append(
            (
                checkpoint["step_number"],
                _figure(metrics.get("train_loss")),
                _figure(metrics.get("full_valid_loss")),
                checkpoint["fine_tuned_model_checkpoint"],
                ago(checkpoint["created_at"]),
            )
        )
    table(("STEP", "LOSS", "VALIDATION", "MODEL", "CREATED"), rows, f"{job_id} has no checkpoints yet.")


@app.command("results")
def results(
    job_id: JobId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; default: standard output.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Fetch the metrics of every step, as CSV."""
    with connect(base_url, api_key) as finery:
        job = finery.jobs.retrieve(job_id)
        if not job.get("result_files"):
            raise NotFound(f"The job {job_id} has no results yet: it is {job['status']}.")
        files.write(finery.files.content(job["result_files"][0]), output)


def _assignments(knobs: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in knobs.items())


def _changed(job: dict[str, Any]) -> dict[str, Any]:
    """Knobs beside OpenAI's whose value isn't the default, nor what "auto" became."""
    return {
        name: job[name]
        for name, knob in KNOBS.items()
        if name in job and knob.default != "auto" and job[name] != knob.default
    }


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
