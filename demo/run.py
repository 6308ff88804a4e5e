"""The demo: teach a small model to route the support tickets of Larkspur Outdoor, and see whether it learned it.

    python demo/run.py            (or `make demo`, which first sets everything up)

Finery's server runs on this machine, and everything is asked of it through the unmodified `openai` package, as any
other client would: upload, fine-tune, evaluate, deploy, chat. Only deployments are Finery's own
(`/finery/v1/deployments`), for OpenAI's API has no word for them.

It ends with 0 only if the tuned model is at least 30 points better than its base on tickets neither has seen.
It knows nothing of how Finery works inside.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from openai import APIConnectionError, APIError, OpenAI
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from rich.markup import escape
from rich.progress import Progress, TaskID
from scoring import evaluate, read_tickets, report
from screen import DemoError, bar, console, fail, heading
from server import LOG, Server, pull, serve

DEMO = Path(__file__).resolve().parent
TRAINING_FILE = DEMO / "support_tickets.train.jsonl"
HELD_OUT_FILE = DEMO / "support_tickets.heldout.jsonl"

BASE_MODEL = "smollm2-135m-instruct"
DEPLOYMENT = "larkspur-router"
NUM_EPOCHS = 1
BATCH_SIZE = 4
SEED = 7
REQUIRED_GAIN_POINTS = 30.0
SETTLED = {"succeeded", "failed", "cancelled"}

NEW_TICKET = (
    "hi there! the zip on my daughter's sleeping bag jams half way since last weekend, one tooth is gone i think. "
    "we only got it in june (love the pattern btw!). can you mend it?"
)


def main() -> int:
    """Run the demo; returns the exit status."""
    began = time.monotonic()
    try:
        gain = demo()
    except (DemoError, APIError, httpx.HTTPError) as error:
        return fail(explain(error))
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    console.print(f"\n[dim]The whole demo took {minutes} min {seconds} s.[/dim]")
    if gain < REQUIRED_GAIN_POINTS:
        return fail(f"The tuned model should be {REQUIRED_GAIN_POINTS:.0f} points above its base; it is {gain:+.1f}.")
    return 0


def demo() -> float:
    """Every step, in order; returns by how many points the tuned model beats its base."""
    console.print("[bold]Finery demo[/bold]: a model of 135 million weights learns to route support tickets.")
    heading(1, "Get the base model and start the server")
    pull(BASE_MODEL)
    with serve() as server, server.openai() as client:
        heading(2, "Upload the data")
        clear_away(client)
        training_file = upload(client, TRAINING_FILE)
        held_out_file = upload(client, HELD_OUT_FILE)
        heading(3, "Fine-tune")
        tuned_model = fine_tune(client, training_file, held_out_file)
        heading(4, "Ask base and tuned model about every held-out ticket")
        tickets = read_tickets(HELD_OUT_FILE)
        base_answers, tuned_answers = evaluate(client, {"base": BASE_MODEL, "tuned": tuned_model}, tickets)
        gain = report(tickets, base_answers, tuned_answers)
        heading(5, "Deploy the tuned model")
        deploy(server, tuned_model)
        heading(6, "Chat with each, about a new ticket")
        system_prompt = tickets[0].prompt[0]
        console.print(f"[dim]{escape(NEW_TICKET)}[/dim]")
        for model in (BASE_MODEL, DEPLOYMENT):
            chat(client, model, [system_prompt, {"role": "user", "content": NEW_TICKET}])
    say_where_to_go_next(system_prompt["content"])
    return gain


def explain(error: Exception) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, DemoError):
        return str(error)
    if isinstance(error, APIConnectionError | httpx.TransportError):
        return f"The server no longer answers; its log is {LOG}."
    if isinstance(error, APIError):
        return f"The server refused: {error.message}"
    return f"Talking with the server failed: {error}"


# The data


def clear_away(client: OpenAI) -> None:
    """Cancel what an interrupted demo left: Finery forgets no job, and would finish that one first."""
    for job in client.fine_tuning.jobs.list(limit=20).data:
        if job.status not in SETTLED:
            client.fine_tuning.jobs.cancel(job.id)
            console.print(f"Cancelled {job.id}, which an earlier demo did not finish.")


def upload(client: OpenAI, path: Path) -> FileObject:
    """Upload a JSONL file and wait until Finery has checked each of its lines."""
    file = client.files.create(file=path, purpose="fine-tune")
    file = client.files.wait_for_processing(file.id, poll_interval=0.2)
    if file.status == "error":
        raise DemoError(f"{path.name} was refused: {file.status_details}")
    rows = len(path.read_text(encoding="utf-8").splitlines())
    console.print(f"{path.name}: {rows} tickets, now {file.id}")
    return file


# The fine-tune


def fine_tune(client: OpenAI, training_file: FileObject, held_out_file: FileObject) -> str:
    """Create the job, follow it to its end, and return the name of the tuned model.

    The held-out tickets are the validation file: their loss is measured at the end of each epoch, nothing is learned
    from them and nothing is chosen by them.
    """
    job = client.fine_tuning.jobs.create(
        model=BASE_MODEL,
        training_file=training_file.id,
        validation_file=held_out_file.id,
        suffix="larkspur",
        seed=SEED,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": NUM_EPOCHS, "batch_size": BATCH_SIZE}},
        },
    )
    console.print(f"{job.id}: {BASE_MODEL}, once through all tickets, {BATCH_SIZE} a step", soft_wrap=True)
    job = follow(client, job)
    if job.status != "succeeded" or not job.fine_tuned_model:
        reason = job.error.message if job.error else "no reason was given"
        raise DemoError(f"The job {job.id} is {job.status}: {reason}")
    console.print(f"The tuned model is [bold]{escape(job.fine_tuned_model)}[/bold]", soft_wrap=True)
    return job.fine_tuned_model


def follow(client: OpenAI, job: FineTuningJob) -> FineTuningJob:
    """Show a job's events and its loss until it is settled."""
    seen: set[str] = set()
    losses: list[float] = []
    with bar() as progress:
        task = progress.add_task("Waiting", total=None, note="")
        while True:
            # The job first, then its events: what a settled job had to say is then complete.
            job = client.fine_tuning.jobs.retrieve(job.id)
            for event in new_events(client, job.id, seen):
                show(progress, task, event, losses)
            if job.status in SETTLED:
                break
            time.sleep(0.5)
    if losses:
        console.print(f"Training loss {losses[0]:.3f} → {losses[-1]:.3f} in {len(losses)} steps.")
    return job


def new_events(client: OpenAI, job_id: str, seen: set[str]) -> list[FineTuningJobEvent]:
    """The events not yet seen, oldest first; the API lists the newest first."""
    fresh = []
    for event in client.fine_tuning.jobs.list_events(job_id, limit=50):
        if event.id in seen:
            break
        seen.add(event.id)
        fresh.append(event)
    return fresh[::-1]


def show(progress: Progress, task: TaskID, event: FineTuningJobEvent, losses: list[float]) -> None:
    """Print an event and move the bar; of the figures only those of each tenth of the way are printed."""
    if event.type != "metrics":
        clock = time.strftime("%H:%M:%S", time.localtime(event.created_at))
        progress.console.print(f"[dim]{clock}[/dim]  {escape(event.message)}", soft_wrap=True)
        return
    data: Any = event.data
    step, total, loss = data["step"], data["total_steps"], data["train_loss"]
    losses.append(loss)
    progress.update(task, description="Training", completed=step, total=total, note=f"loss {loss:.3f}")
    held_out_loss = data.get("full_valid_loss")
    if held_out_loss is not None or step == 1 or step % max(1, total // 10) == 0:
        held_out = f", on the held-out tickets {held_out_loss:.3f}" if held_out_loss is not None else ""
        progress.console.print(f"          step {step:>3} of {total}: loss {loss:.3f}{held_out}")


# The deployment


def deploy(server: Server, model: str) -> None:
    """Give the tuned model a name of its own, and wait until Finery has loaded it and asked it a first question."""
    with server.finery() as finery:
        if finery.get(f"/deployments/{DEPLOYMENT}").is_success:
            console.print(f"An earlier demo's {DEPLOYMENT} makes room for the new one.")
            checked(finery.delete(f"/deployments/{DEPLOYMENT}"))
        body = {"name": DEPLOYMENT, "model": model}
        console.print(f"[dim]POST /finery/v1/deployments {escape(json.dumps(body))}[/dim]", soft_wrap=True)
        deployment = checked(finery.post("/deployments", json=body))
        while deployment["status"] == "Creating":
            time.sleep(0.2)
            deployment = checked(finery.get(f"/deployments/{DEPLOYMENT}"))
    if deployment["status"] != "Succeeded":
        raise DemoError(f"The deployment {DEPLOYMENT} is {deployment['status']}: {deployment['status_details']}")
    console.print(f"{DEPLOYMENT}: {deployment['status']}")


def checked(response: httpx.Response) -> Any:
    """The body of an answer.

    Raises:
        DemoError: the server refused, in its own words.
    """
    if response.is_error:
        raise DemoError(f"The server refused {response.request.url.path}: {response.json()['error']['message']}")
    return response.json()


# The chat


def chat(client: OpenAI, model: str, messages: Any) -> None:
    """Print a model's answer as it is written."""
    console.print(f"[bold]{model}[/bold]: ", end="")
    stream = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=40, stream=True)
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            console.out(chunk.choices[0].delta.content, end="", highlight=False)
    console.print()


def say_where_to_go_next(system_prompt: str) -> None:
    """The commands that go on from here."""
    finery = ".venv/bin/finery"
    console.print(
        "\n[bold]Where to go next[/bold] (in this folder; model and deployment stay in the demo's home)",
        "  export FINERY_HOME=$PWD/.cache/demo-home FINERY_MODELS=$PWD/.cache/models",
        f"  {finery} serve        # and then, in a second terminal with the same export:",
        f"  {finery} chat {DEPLOYMENT} --system '{system_prompt}' 'where is my parcel??'",
        f"  {finery} models list",
        f"  {finery} tune YOUR_DATA.jsonl --model {BASE_MODEL} --suffix mine",
        f"  {finery} doctor",
        sep="\n",
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
