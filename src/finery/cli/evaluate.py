"""`finery evaluate`: models asked the same held-out rows, a verdict, and a report to keep."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finery.cli import files, findings, progress
from finery.cli.console import note, say, say_json, table
from finery.cli.figures import count
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect
from finery.core.errors import InvalidRequest

if TYPE_CHECKING:
    from finery.sdk import Finery, Json

_STYLES = {"better": "green", "worse": "red", "no_clear_difference": "yellow"}
_FORMS = {"report.html": "html", "report.md": "markdown", "report.json": "json"}


def evaluate(
    models: Annotated[
        str,
        typer.Option(
            "--models",
            metavar="A,B,…",
            show_default=False,
            help="Deployments or models, the one in question last; `base` and `parent` mean the last one's.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="FILE",
            show_default=False,
            help="Held-out rows: a JSONL file, or a file's id, or a dataset.",
        ),
    ],
    *,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="What decides; default: by what the answers are.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", min=1, help="Longest answer; default: by the data's.")
    ] = None,
    probe: Annotated[bool, typer.Option("--probe/--no-probe", help="Ask general questions as well.")] = True,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Title of the report.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", file_okay=False, help="Write the report here.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Ask models the same held-out rows, and say whether the last one is better.

    Ends with 0 whatever the verdict is. Differences come with 95 % intervals; better and worse are only said where the
    whole interval lies on one side of zero.
    """
    named = [part.strip() for part in models.split(",") if part.strip()]
    with connect(base_url, api_key) as finery:
        evaluation = finery.evaluations.create(
            named, held_out_data(finery, data), metric=metric, max_tokens=max_tokens, probe=probe, name=name
        )
        evaluation = _follow(finery, evaluation["id"])
        if evaluation["status"] != "completed":
            raise InvalidRequest(f"The evaluation {evaluation['id']} is {evaluation['status']}: {evaluation['error']}")
        if output is not None:
            _write(finery, evaluation["id"], output)
    if as_json:
        say_json(evaluation)
        return
    _show(evaluation["report"])
    if output is None:
        note(f"The whole report: finery evaluate … --output DIR, or /finery/v1/evaluations/{evaluation['id']}/report")


def held_out_data(finery: "Finery", data: str) -> str:
    """The id of held-out rows: uploaded where they are a file of this machine."""
    path = Path(data)
    if not path.is_file():
        return data
    file = files.send(finery, path, "evals")
    report = files.checked_report(finery, file)
    if file["status"] == "error":
        finery.files.delete(file["id"])
        findings.show(report, more=f"finery files check {path}")
        raise InvalidRequest(f"{path} can't be evaluated on: {findings.counted(report, 'error')}.")
    return str(file["id"])


def _follow(finery: "Finery", evaluation_id: str) -> "Json":
    latest: Json = {}
    try:
        with progress.share_bar("Asking") as show:
            for latest in finery.evaluations.follow(evaluation_id):
                counts = latest["counts"]
                show(latest["status"], counts["completed"] / max(counts["total"], 1))
    except KeyboardInterrupt:
        note(f"The evaluation goes on: /finery/v1/evaluations/{evaluation_id}")
        raise
    return latest


def _write(finery: "Finery", evaluation_id: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, form in _FORMS.items():
        (folder / name).write_text(finery.evaluations.report(evaluation_id, form), encoding="utf-8")
    pictures = json.loads(finery.evaluations.report(evaluation_id, "pictures"))
    for name, picture in pictures.items():
        (folder / Path(name).name).write_text(picture, encoding="utf-8")
    note(f"Wrote {', '.join(_FORMS)} and {len(pictures)} pictures to {folder}")


def _show(report: "Json") -> None:
    names = dict.fromkeys(name for model in report["models"] for name in model["figures"])
    rows: list[list[Any]] = [
        [name, *(_figure(model["figures"].get(name)) for model in report["models"])] for name in names
    ]
    rows.append(["answer tokens", *(count(model["completion_tokens"]) for model in report["models"])])
    rows.append(["seconds an answer", *(f"{model['seconds_median'] or 0:.2f}" for model in report["models"])])
    table(["METRIC", *(model["model"] for model in report["models"])], rows, "no figures")
    for pair in report["comparisons"]:
        note(f"{pair['num_better']} answers got better, {pair['num_worse']} worse, against {pair['first']}")
    say(report["sentence"], style=_STYLES[report["verdict"]])


def _figure(found: Any) -> str:
    if found is None or found["value"] is None:
        return ""
    low, high = found["low"], found["high"]
    interval = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    return f"{found['value']:.3g}{interval}"
