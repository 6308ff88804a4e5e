"""`finery files …` and `finery datasets`: training data looked at with a model's eyes, inspected, cleaned, split, kept.

The work is the server's, but for converting, which happens here. Nothing is changed in place: what is made from a file
is a new file.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from finery.cli import findings
from finery.cli.console import fields, note, out, plain, say, say_json, table
from finery.cli.figures import ago, count, size
from finery.cli.files import FileId, app
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun
from finery.core.errors import Unavailable

datasets = noun("Names under which versions of training data are kept.")

Model = Annotated[str, typer.Option("--model", metavar="MODEL", show_default=False, help="With which model's eyes.")]
Other = Annotated[
    str | None, typer.Option("--validation", metavar="FILE_ID", help="The validation file, to look for leaks.")
]
DatasetName = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Name of the dataset.")]


@app.command("line")
def line(
    file_id: FileId,
    number: Annotated[int, typer.Argument(metavar="LINE", min=1, show_default=False, help="Line of the file, from 1.")],
    model: Model,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show a row as a model sees it; what is trained is green."""
    from rich.text import Text

    with connect(base_url, api_key) as finery:
        view = finery.files.line(file_id, number, model)
    if as_json:
        say_json(view)
        return
    styles = {True: "bold green", False: "dim"}
    out().print(Text.assemble(*((plain(p["text"]), styles[p["trained"]]) for p in view["pieces"])), soft_wrap=True)


@app.command("tokens")
def tokens(
    file_id: FileId,
    model: Model,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="NUMBER", min=8, help="Longest row a job will take.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Count a file's tokens for a model, and name rows it can't learn."""
    with connect(base_url, api_key) as finery:
        report = finery.files.token_report(file_id, model, max_tokens)
    if as_json:
        say_json(report)
        return
    statistics = report["statistics"]
    lengths = statistics["row_tokens"]
    fields(
        (
            ("Rows", count(report["rows"])),
            ("Tokens", count(statistics["tokens"])),
            ("Trained on", count(statistics["trained_tokens"])),
            ("A row", ", ".join(f"{name} {count(value)}" for name, value in lengths.items())),
            ("Over the limit", count(statistics["tokens_over"])),
        )
    )
    findings.show(report, more=f"finery files tokens {file_id} --model {model} --json")


@app.command("quality")
def quality(
    file_id: FileId, validation: Other = None, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Look for repeats, leaks, imbalance, refusals, personal data and secrets."""
    with connect(base_url, api_key) as finery:
        report = finery.files.quality(file_id, validation)
    if as_json:
        say_json(report)
        return
    say(report["summary"])
    findings.show(report, more=f"finery files quality {file_id} --json")


@app.command("clean")
def clean(
    file_id: FileId,
    steps: Annotated[
        list[str],
        typer.Argument(metavar="STEP…", show_default=False, help="Names of steps, in order: docs/data.md."),
    ],
    validation: Other = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="For steps that count a model's tokens.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a new file with cleaning steps applied."""
    with connect(base_url, api_key) as finery:
        made = finery.files.clean(file_id, steps, model=model, validation_file=validation)
    if as_json:
        say_json(made)
        return
    rows = [(s["name"], count(len(s["changed"])), count(len(s["dropped"]))) for s in made["record"]["steps"]]
    table(("STEP", "CHANGED", "DROPPED"), rows, "")
    _made("Cleaned", [made["file"]])


@app.command("split")
def split(
    file_id: FileId,
    fraction: Annotated[
        float | None, typer.Option("--fraction", metavar="SHARE", help="Share of the rows for validation; default 0.1.")
    ] = None,
    number: Annotated[int | None, typer.Option("--count", metavar="NUMBER", min=1, help="Rows for validation.")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="The same seed gives the same split.")] = 0,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make two new files, one to train and one to validate on."""
    share = 0.1 if fraction is None and number is None else fraction
    with connect(base_url, api_key) as finery:
        made = finery.files.split(file_id, fraction=share, count=number, seed=seed)
    if as_json:
        say_json(made)
        return
    _made("Training", [made["training"]])
    _made("Validation", [made["validation"]])


@app.command("convert")
def convert(
    source: Annotated[
        Path, typer.Argument(exists=True, show_default=False, help="CSV, Parquet, JSON, JSONL, or a folder of them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Where to write.")],
    shape: Annotated[
        str | None, typer.Option("--shape", metavar="WORD", help="What the rows are; default: the first row tells.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="ROLE=NAME", help="user, assistant, system, text, label or target = a column's name."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn what you have (CSV, Parquet, ShareGPT, Alpaca …) into JSONL, here."""
    converters = _converters()
    chosen = dict(pair.partition("=")[::2] for pair in columns or [])
    try:
        given = converters.Columns(**chosen) if chosen else None
    except TypeError:
        raise typer.BadParameter(f"{' '.join(columns or [])}: write ROLE=NAME with a role of the list") from None
    done = converters.convert(source, output, shape=shape, columns=given)
    if as_json:
        say_json(done.to_json())
        return
    say(f"{output}: {count(done.rows)} rows, taken for {done.shape}")
    for reason, times in done.skipped.items():
        note(f"left out {count(times)}: {reason}")


@datasets.command("add")
def add(
    name: DatasetName,
    file_id: FileId,
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="What it is, for a new dataset.")
    ] = "",
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Put a file behind a dataset's last version; the first one makes the dataset."""
    with connect(base_url, api_key) as finery:
        version = finery.datasets.add(name, file_id, description=description)
    say(f"{name}:{version['version']}  {file_id}")


@datasets.command("list")
def list_(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List datasets."""
    with connect(base_url, api_key) as finery:
        found = list(finery.datasets.list())
    if as_json:
        say_json(found)
        return
    rows = [(d["name"], d["latest_version"], ago(d["created_at"]), d["description"]) for d in found]
    table(("NAME", "VERSIONS", "CREATED", "DESCRIPTION"), rows, "No datasets yet: finery datasets add NAME FILE_ID")


@datasets.command("show")
def show(name: DatasetName, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a dataset's versions and where each came from."""
    with connect(base_url, api_key) as finery:
        dataset = finery.datasets.retrieve(name)
    if as_json:
        say_json(dataset)
        return
    rows = [
        (f"{name}:{v['version']}", v["file_id"], v["origin"], v["parent_file_id"] or "", ago(v["created_at"]))
        for v in dataset["versions"]
    ]
    table(("VERSION", "FILE", "ORIGIN", "MADE FROM", "CREATED"), rows, "No versions.")


@datasets.command("delete")
def delete(name: DatasetName, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Forget a dataset; its files stay."""
    with connect(base_url, api_key) as finery:
        say(finery.datasets.delete(name)["note"])


def _made(what: str, files: Iterable[dict[str, Any]]) -> None:
    for file in files:
        say(f"{what}: {file['id']}  {file['filename']} · {size(file['bytes'])}")


def _converters() -> Any:
    """`finery.data.converters`.

    Raises:
        Unavailable: this is a bare client, without the parts that read data.
    """
    try:
        from finery.data import converters
    except ImportError as error:
        raise Unavailable(
            f"Converting needs the server parts ({error.name} is missing): pip install 'finery[server]'."
        ) from None
    return converters
