"""`finery monitor`: what deployments answer, whether that drifts, and capture of it for training."""

from typing import Annotated, Any

import typer

from finery.cli import progress
from finery.cli.console import fields, note, say, say_json, table
from finery.cli.figures import count, moment
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun

app = noun("What deployments answer, and what becomes of it.")

Name = Annotated[str, typer.Argument(show_default=False, help="Name of the deployment.")]
Hours = Annotated[float, typer.Option("--hours", metavar="N", min=0.01, max=744, help="How far to look back.")]


@app.command("metrics")
def metrics(
    name: Name, hours: Hours = 1, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Show counters and latencies of a deployment."""
    with connect(base_url, api_key) as finery:
        found = finery.monitoring.metrics(name, seconds=round(hours * 3600))
    if as_json:
        say_json(found)
        return
    tokens = found["tokens"]
    fields(
        (
            ("Since", moment(found["since"])),
            ("Answers", count(found["requests"])),
            ("Ended", ", ".join(f"{word} {count(n)}" for word, n in found["outcomes"].items())),
            ("Refusals", count(found["refusals"])),
            ("Filtered", ", ".join(f"{word} {count(n)}" for word, n in found["filtered"].items())),
            ("Prompt tokens", f"{count(tokens['prompt'])}, {count(tokens['cached'])} of them from the cache"),
            ("Answer tokens", count(tokens["completion"])),
        )
    )
    rows = [
        (label, *(_number(found[key][mark], unit) for mark in ("mean", "p50", "p90", "p95", "p99")))
        for label, key, unit in (
            ("Time to first token", "time_to_first_token", " s"),
            ("Duration", "duration", " s"),
            ("Prompt length", "prompt_length", ""),
            ("Answer length", "answer_length", ""),
        )
    ]
    say()
    table(("", "MEAN", "P50", "P90", "P95", "P99"), rows, "")


@app.command("usage")
def usage(
    width: Annotated[str, typer.Option("--width", metavar="SPAN", help="5m, 1h or 1d.")] = "1d",
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show requests and tokens of the project, by deployment or model."""
    with connect(base_url, api_key) as finery:
        found = list(finery.monitoring.usage(width=width))
    if as_json:
        say_json(found)
        return
    rows = [
        (
            moment(u["began_at"]),
            u["name"],
            *(count(u[key]) for key in ("requests", "prompt_tokens", "completion_tokens")),
        )
        for u in found
    ]
    table(("FROM", "NAME", "REQUESTS", "PROMPT TOKENS", "ANSWER TOKENS"), rows, "Nothing was answered yet.")


@app.command("drift")
def drift(
    name: Name,
    hours: Hours = 24,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a deployment's traffic has moved away from its training data."""
    with connect(base_url, api_key) as finery, progress.waiting(f"Comparing {name} with its training data"):
        found = finery.monitoring.drift(name, seconds=round(hours * 3600))
    if as_json:
        say_json(found)
        return
    rows = [
        (s["name"], _number(s["baseline"]), _number(s["live"]), _distance(s), _verdict(s["drifted"]))
        for s in found["signals"]
    ]
    table(("SIGNAL", "BEFORE", "LIVE", "DISTANCE", ""), rows, "")
    note(
        f"{count(found['answers'])} answers, {count(found['captured'])} of them captured, against "
        f"{count(found['training_rows'])} training rows."
    )


@app.command("capture")
def capture(
    name: Name,
    *,
    off: Annotated[bool, typer.Option("--off", help="Keep no more.")] = False,
    share: Annotated[float, typer.Option("--share", metavar="X", help="Of all conversations, 0 to 1.")] = 1.0,
    days: Annotated[int, typer.Option("--days", metavar="N", help="How long each is kept.")] = 30,
    redact: Annotated[
        bool, typer.Option("--redact/--as-it-is", help="Mask personal data and secrets before writing.")
    ] = True,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Keep a deployment's conversations from now on, or no more."""
    with connect(base_url, api_key) as finery:
        if off:
            finery.monitoring.stop_capture(name)
            say(f"{name}: nothing more is kept.")
            return
        finery.monitoring.capture(name, share=share, retention_days=days, redact=redact)
    form = "masked" if redact else "as they are"
    say(f"{name}: {share:.0%} of its conversations are kept, {form}, for {days} days.")
    note(f"Make training data of them: finery monitor collect {name} --dataset NAME")


@app.command("collect")
def collect(
    name: Name,
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="NAME", show_default=False, help="The dataset to put a version behind.")
    ],
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a dataset's next version of a deployment's kept conversations."""
    with connect(base_url, api_key) as finery:
        version = finery.monitoring.collect(name, dataset)
    if as_json:
        say_json(version)
        return
    record = version["record"]
    say(f"{dataset}:{version['version']}  {version['file_id']} · {count(record['rows'])} rows")
    note(
        f"Of {count(record['kept'])} conversations; {count(record['cut_off'])} were cut off, "
        f"{count(record['repeated'])} repeated, {count(record.get('unreadable', 0))} unreadable, "
        f"{count(record['masked'])} places masked."
    )


@app.command("forget")
def forget(name: Name, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Forget a deployment's kept conversations; datasets made of them stay."""
    with connect(base_url, api_key) as finery:
        finery.monitoring.forget_captured(name)
    say(f"{name}: what was kept is forgotten.")


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.3g}{unit}"


def _distance(signal: dict[str, Any]) -> str:
    return "–" if signal["distance"] is None else f"{signal['measure']} {signal['distance']:.2f}"


def _verdict(drifted: bool | None) -> str:
    return {True: "drifted", False: "steady", None: "too little to tell"}[drifted]
