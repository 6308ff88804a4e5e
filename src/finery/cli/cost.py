"""`finery cost`: what was spent, what a job would cost, prices, and the project's budget."""

import sys
from typing import Annotated

import typer

from finery.cli.console import fields, say, say_json, table
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun

app = noun("What things cost.")

_DAY = "YYYY-MM-DD"


@app.command("report")
def report(
    since: Annotated[
        str | None, typer.Option("--since", metavar=_DAY, help="First day; default: the first of this month.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar=_DAY, help="Last day; default: today.")] = None,
    group_by: Annotated[
        str,
        typer.Option("--by", metavar="NAMES", help="Some of project, model, day, meter, source, with commas between."),
    ] = "project,model,day",
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what was spent."""
    asked = {"since": since, "until": until, "group_by": group_by}
    with connect(base_url, api_key) as finery:
        if csv:
            sys.stdout.write(finery.costs.csv(**asked).decode())
            return
        found = finery.costs.report(**asked)
    if as_json:
        say_json(found)
        return
    names = [name.strip() for name in group_by.split(",")]
    rows = [[*(line.get(name) for name in names), f"{line['amount']:.6f}"] for line in found["data"]]
    headings = [*(name.upper() for name in names), found["currency"]]
    table(headings, rows, "Nothing was spent.")
    say(f"Total {found['total']:.6f} {found['currency']} from {found['since']} to {found['until']}")


@app.command("estimate")
def estimate(
    training_file: Annotated[
        str, typer.Argument(metavar="FILE_ID", show_default=False, help="Id of the training file, or a dataset.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="Model to tune.")],
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N", help="Epochs; default: as a job.")] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say what a job would cost, without submitting it."""
    with connect(base_url, api_key) as finery:
        found = finery.costs.estimate(model, training_file, {} if epochs is None else {"n_epochs": epochs})
    if as_json:
        say_json(found)
        return
    fields(
        (
            ("Tokens", f"{found['tokens']:,}"),
            ("Epochs", found["n_epochs"]),
            ("Trained tokens", f"{found['trained_tokens']:,}"),
            ("Cost", f"{found['amount']:.6f} {found['currency']}"),
        )
    )


@app.command("prices")
def prices(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the price table: training, input and output per million tokens, hosting per hour."""
    with connect(base_url, api_key) as finery:
        found = list(finery.costs.prices())
    if as_json:
        say_json(found)
        return
    rows = [(p["model"], p["training"], p["hosting"], p["input"], p["output"]) for p in found]
    table(("MODEL", "TRAINING", "HOSTING", "INPUT", "OUTPUT"), rows, "No prices: nothing costs anything.")


@app.command("set-price")
def set_price(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", show_default=False, help="Base model, or '*' for every other.")
    ],
    training: Annotated[float, typer.Option("--training", metavar="X", help="Per million trained tokens.")] = 0.0,
    hosting: Annotated[float, typer.Option("--hosting", metavar="X", help="Per hour that a deployment is up.")] = 0.0,
    input_: Annotated[float, typer.Option("--input", metavar="X", help="Per million tokens read.")] = 0.0,
    output: Annotated[float, typer.Option("--output", metavar="X", help="Per million tokens written.")] = 0.0,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Price a base model from now on."""
    with connect(base_url, api_key) as finery:
        finery.costs.set_price(model, training=training, hosting=hosting, input=input_, output=output)
    say(f"Priced {model}")


@app.command("budget")
def budget(
    limit: Annotated[
        float | None, typer.Option("--set", metavar="X", help="Give the project this much to spend.")
    ] = None,
    period: Annotated[str, typer.Option("--period", metavar="PERIOD", help="month or total.")] = "month",
    warn_at: Annotated[float, typer.Option("--warn-at", metavar="SHARE", help="Share at which to warn.")] = 0.8,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show the project's budget, or set it.

    When it is used up, running jobs pause with a checkpoint and nothing new begins.
    """
    with connect(base_url, api_key) as finery:
        costs = finery.costs
        found = costs.budget() if limit is None else costs.set_budget(limit, period=period, warn_at=warn_at)
    if as_json:
        say_json(found)
        return
    spent = f"{found['spent']:.6f} of {found['limit']:g} {found['currency']}"
    fields((("Spent", spent), ("Period", found["period"]), ("State", found["state"])))
