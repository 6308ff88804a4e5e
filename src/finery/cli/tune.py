"""`finery tune`: the whole job from one command: upload, check, train, report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finery.cli import files, findings, training
from finery.cli.console import note, say_json
from finery.cli.figures import count
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect
from finery.core import hyperparameters
from finery.core.errors import InvalidRequest

if TYPE_CHECKING:
    from finery.sdk import Finery, Json

REINFORCEMENT = "reinforcement"

Data = Annotated[
    Path, typer.Argument(metavar="DATA", exists=True, dir_okay=False, show_default=False, help="Training data, JSONL.")
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", show_default=False, help="Model to start from: a base or a tuned one."
    ),
]
Validation = Annotated[
    Path | None,
    typer.Option("--validation", metavar="FILE", exists=True, dir_okay=False, help="Validation data, JSONL."),
]
Split = Annotated[
    float | None,
    typer.Option("--split", metavar="SHARE", help="Hold out this share of the data for validation, such as 0.1."),
]
Suffix = Annotated[
    str | None, typer.Option("--suffix", metavar="WORD", help="A word of yours in the name of the tuned model.")
]
Name = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="A name for the job, kept in its metadata.")]
Method = Annotated[
    str | None, typer.Option("--method", metavar="supervised|dpo", help="What the examples teach; default supervised.")
]
Grader = Annotated[
    Path | None,
    typer.Option(
        "--grader",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A grader of OpenAI's API as JSON: the model learns from the grades of its own answers.",
    ),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Times the data is gone through; default: by its size.")
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", metavar="N", help="Examples per step; default: by the data's size.")
]
BatchMultiplier = Annotated[
    float | None, typer.Option("--batch-size-multiplier", metavar="X", help="Factor on the batch size.")
]
RateMultiplier = Annotated[
    float | None,
    typer.Option("--learning-rate-multiplier", metavar="X", help="Factor on the model's own learning rate."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Same seed, same data, same machine: same model.")
]
Knobs = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KNOB=VALUE", help="Any other knob of a job, such as lora_rank=32; may be given many times."
    ),
]


def tune(
    data: Data,
    model: Model,
    *,
    validation: Validation = None,
    split: Split = None,
    suffix: Suffix = None,
    name: Name = None,
    method: Method = None,
    grader: Grader = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    batch_size_multiplier: BatchMultiplier = None,
    learning_rate_multiplier: RateMultiplier = None,
    seed: Seed = None,
    knobs: Knobs = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model on a file.

    Uploads the data, checks it, trains, shows how it goes and reports what came of it. Ctrl-C stops looking on; the
    job itself goes on.
    """
    if validation is not None and split is not None:
        raise typer.BadParameter("give --validation or --split, not both")
    if grader is not None and method not in (None, REINFORCEMENT):
        raise typer.BadParameter(f"a grader is for reinforcement, not for --method {method}")
    standard = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate_multiplier}
    extras = {"validation_split": split, "batch_size_multiplier": batch_size_multiplier, **parse_knobs(knobs or [])}
    fields = job_fields(standard | extras, REINFORCEMENT if grader else method)
    if grader:
        fields["method"][REINFORCEMENT]["grader"] = read_grader(grader)
    with connect(base_url, api_key) as finery:
        training_file = usable_file(finery, data)
        validation_file = usable_file(finery, validation) if validation else None
        job = finery.jobs.create(
            model,
            training_file,
            validation_file=validation_file,
            suffix=suffix,
            seed=seed,
            metadata={"name": name} if name else None,
            **fields,
        )
        job, history = training.follow(finery, job["id"])
    if as_json:
        say_json(job)
    training.require_success(job)
    if not as_json:
        training.report(job, history)


def parse_knobs(assignments: list[str]) -> dict[str, Any]:
    """`KNOB=VALUE` texts as knobs; a value is JSON, or a plain word.

    Raises:
        InvalidRequest: not an assignment, or no such knob.
    """
    knobs = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InvalidRequest(f"--set {assignment} has no value; write --set {assignment}=VALUE.")
        if name not in hyperparameters.KNOBS:
            raise InvalidRequest(
                f"There is no knob {name!r}; there are: {', '.join(sorted(hyperparameters.KNOBS))}.", param=name
            )
        try:
            knobs[name] = json.loads(text)
        except ValueError:
            knobs[name] = text
    return knobs


def read_grader(path: Path) -> Any:
    """A grader from a file; the server judges it.

    Raises:
        InvalidRequest: the file holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{path} holds no JSON: {error}.", param="grader") from None


def job_fields(knobs: dict[str, Any], method: str | None) -> dict[str, Any]:
    """Knobs where a job's body has them: OpenAI's inside the method, the others beside it.

    Raises:
        InvalidRequest: a value out of its range, before anything was uploaded.
    """
    given = {name: value for name, value in knobs.items() if value is not None}
    hyperparameters.check(given)
    kind = method or "supervised"
    names = {knob.name for knob in hyperparameters.HYPERPARAMETERS}
    own = {name: value for name, value in given.items() if name in names}
    beside = {name: value for name, value in given.items() if name not in names}
    return {"method": {"type": kind, kind: {"hyperparameters": own}}, **beside}


def usable_file(finery: "Finery", path: Path) -> str:
    """Upload data and check it; the id of the file.

    Raises:
        InvalidRequest: the check refused it; what it found was printed, and the upload is taken back.
    """
    file: Json = files.send(finery, path, "fine-tune")
    report = files.checked_report(finery, file)
    if file["status"] == "error":
        finery.files.delete(file["id"])
        findings.show(report, more=f"finery files check {path}")
        raise InvalidRequest(f"{path} can't be trained on: {findings.counted(report, 'error')}. No job was started.")
    rows = f"{count(report['rows'])} rows" if report.get("rows") else "checked"
    note(f"Uploaded {path.name} as {file['id']} ({rows})")
    if report.get("findings"):
        note(f"It has {findings.counted(report, 'warning')}: finery files show {file['id']}", style="yellow")
    return str(file["id"])
