"""`finery deployments`: give a model a name under which it answers, and change what answers there."""

from typing import Annotated, Any

import typer

from finery.cli import evaluate, progress
from finery.cli.console import fields, note, say, say_json, table
from finery.cli.figures import ago, moment
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun
from finery.core.errors import Conflict, InvalidRequest, Unavailable

app = noun("Names under which models answer.")

Name = Annotated[str, typer.Argument(show_default=False, help="Name of the deployment.")]
Sku = Annotated[str | None, typer.Option("--sku", metavar="NAME", help="Kind of deployment, such as Standard.")]
Capacity = Annotated[
    int | None, typer.Option("--capacity", metavar="N", min=1, help="Its limit, in thousand tokens a minute.")
]
Policy = Annotated[str | None, typer.Option("--policy", metavar="NAME", help="Name of the content filter policy.")]
Engine = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="What runs it: llamacpp, torch, vllm.")]
Replicas = Annotated[
    int | None, typer.Option("--replicas", metavar="N", min=1, help="Inference servers that share its requests.")
]
IdleSeconds = Annotated[
    int | None,
    typer.Option(
        "--idle-seconds", metavar="N", min=0, help="Give its memory back after so long without a request; 0: never."
    ),
]
AcceptParity = Annotated[
    str | None,
    typer.Option("--accept-parity", metavar="REASON", help="Deploy even where its parity certificate fails."),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it answers.")]


@app.command("create")
def create(
    name: Name,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", show_default=False, help="A base model, a tuned model or a checkpoint."
        ),
    ],
    *,
    sku: Sku = None,
    capacity: Capacity = None,
    policy: Policy = None,
    engine: Engine = None,
    replicas: Replicas = None,
    idle_seconds: IdleSeconds = None,
    accept_parity: AcceptParity = None,
    wait: Wait = True,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Deploy a model under a name."""
    asked = _asked(sku, capacity, policy, engine, replicas, idle_seconds, accept_parity)
    with connect(base_url, api_key) as finery:
        deployment = finery.deployments.create(name, model, **asked)
        if wait and deployment["status"] == "Creating":
            with progress.waiting(f"Getting {model} ready to answer as {name}"):
                deployment = finery.deployments.wait(name)
    if as_json:
        say_json(deployment)
    if deployment["status"] == "Failed":
        details = deployment.get("status_details") or "the server gave no reason"
        raise Unavailable(f"{name} could not be deployed: {details} Remove it with `finery deployments delete {name}`.")
    if as_json:
        return
    if deployment["status"] == "Succeeded":
        say(f"{name} answers now.")
        note(f'Try it: finery chat {name} "Hello"')
    else:
        say(f"{name} is {deployment['status']}.")
        note(f"Look at it: finery deployments show {name}")


@app.command("update")
def update(
    name: Name,
    *,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="What answers from now on.")] = None,
    sku: Sku = None,
    capacity: Capacity = None,
    policy: Policy = None,
    engine: Engine = None,
    replicas: Replicas = None,
    idle_seconds: IdleSeconds = None,
    accept_parity: AcceptParity = None,
    wait: Wait = True,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Change a deployment without an interruption: the new is proven before the old stops answering."""
    changes = _asked(sku, capacity, policy, engine, replicas, idle_seconds, accept_parity)
    changes |= {"model": model} if model else {}
    if not changes:
        raise InvalidRequest("Say what to change; `finery deployments update --help` lists it.")
    with connect(base_url, api_key) as finery:
        deployment = finery.deployments.update(name, **changes)
        if wait:
            with progress.waiting(f"Proving the change of {name}"):
                deployment = finery.deployments.wait(name)
    if as_json:
        say_json(deployment)
    failed = deployment if deployment["status"] == "Failed" else deployment.get("update") or {}
    if failed.get("status") == "Failed":
        answers = "" if failed is deployment else f" {deployment['model']} goes on answering as before."
        raise Unavailable(f"{name} could not be changed: {failed.get('status_details')}{answers}")
    if not as_json:
        say(f"{name} is being changed." if failed else f"{name} is changed.")


@app.command("list")
def list_(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List deployments."""
    with connect(base_url, api_key) as finery:
        deployments = list(finery.deployments.list())
    if as_json:
        say_json(deployments)
        return
    rows = [(d["name"], d["model"], d["status"], ago(d.get("created_at"))) for d in deployments]
    table(
        ("NAME", "MODEL", "STATUS", "CREATED"), rows, "No deployments yet: finery deployments create NAME --model MODEL"
    )


@app.command("show")
def show(name: Name, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a deployment."""
    with connect(base_url, api_key) as finery:
        deployment = finery.deployments.retrieve(name)
    if as_json:
        say_json(deployment)
        return
    update = deployment.get("update")
    override = deployment.get("parity_override")
    fields(
        (
            ("Name", deployment["name"]),
            ("Model", deployment["model"]),
            ("Status", deployment["status"]),
            ("Details", deployment.get("status_details")),
            ("Update", update and f"{update['status']}: {update.get('status_details') or _changes(update['changes'])}"),
            ("Sku", _sku(deployment.get("sku"))),
            ("Policy", deployment.get("policy")),
            ("Engine", deployment.get("engine")),
            ("Replicas", deployment.get("replicas") and f"{deployment['ready_replicas']} of {deployment['replicas']}"),
            ("Idle", deployment.get("idle_seconds") and f"asleep after {deployment['idle_seconds']} s"),
            ("Parity", _parity(deployment.get("certificate"))),
            ("Override", override and f"{override['reason']} ({override['by']}, {ago(override['at'])})"),
            ("Created", moment(deployment.get("created_at"))),
        )
    )


@app.command("promote")
def promote(
    name: Name,
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", show_default=False, help="The model that shall answer.")
    ],
    *,
    evaluation: Annotated[
        str | None, typer.Option("--evaluation", metavar="ID", help="A completed evaluation that speaks for it.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Let another model answer under the name, if it meets the deployment's rule.

    With a rule the model is compared with the one that answers now; refused, the command ends with 1.
    """
    with connect(base_url, api_key) as finery:
        promotion = finery.promotions.create(name, model, evaluation=evaluation)
        if promotion["status"] == "evaluating":
            with progress.waiting(f"Comparing {model} with {promotion['previous_model']}"):
                promotion = finery.promotions.wait(name, promotion["id"])
        update = None
        if promotion["status"] == "promoted":
            with progress.waiting(f"Proving {model}"):
                update = finery.deployments.wait(name)["update"]
    if as_json:
        say_json(promotion)
    if promotion["status"] != "promoted":
        raise Conflict(f"{model} was not promoted to {name}. {promotion['reason']}")
    if update and update["status"] == "Failed":
        raise Unavailable(f"{model} could not be put to work as {name}: {update['status_details']}")
    if not as_json:
        say(f"{name} answers with {model}. {promotion['reason']}")


@app.command("rule")
def rule(
    name: Name,
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="FILE", show_default=False, help="Held-out rows: a JSONL file, a file's id, or a dataset."
        ),
    ],
    *,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="What decides.")] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="X", help="The 95 % interval of the difference must lie above this.")
    ] = 0.0,
    forgetting: Annotated[
        bool, typer.Option("--forgetting/--no-forgetting", help="Refuse models that forgot general questions.")
    ] = True,
    max_error_rate: Annotated[
        float | None, typer.Option("--max-error-rate", metavar="SHARE", help="Roll back above this share of errors.")
    ] = None,
    max_filter_rate: Annotated[
        float | None, typer.Option("--max-filter-rate", metavar="SHARE", help="The same of filtered answers.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Say what a model must show before it may answer under the name."""
    with connect(base_url, api_key) as finery:
        made = finery.promotions.set_rule(
            name,
            evaluate.held_out_data(finery, data),
            metric=metric,
            threshold=threshold,
            forgetting=forgetting,
            max_error_rate=max_error_rate,
            max_filter_rate=max_filter_rate,
        )
    say(f"{name} takes another model only where {made['metric'] or 'it'} is better by more than {threshold:g}.")
    note(f"Try it: finery deployments promote {name} --model MODEL")


@app.command("delete")
def delete(name: Name, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Take a deployment down; its model stays."""
    with connect(base_url, api_key) as finery:
        answer = finery.deployments.delete(name)
    say(f"Deleted {name}" if answer.get("deleted", True) else f"{name} goes once its last answers are written")


def _asked(
    sku: str | None,
    capacity: int | None,
    policy: str | None,
    engine: str | None,
    replicas: int | None,
    idle_seconds: int | None,
    accept_parity: str | None,
) -> dict[str, Any]:
    """Fields of a request; what wasn't given is left out."""
    size = {key: value for key, value in (("name", sku), ("capacity", capacity)) if value is not None}
    given = {
        "sku": size or None,
        "policy": policy,
        "engine": engine,
        "replicas": replicas,
        "parity_override": accept_parity,
    }
    idle = {} if idle_seconds is None else {"idle_seconds": idle_seconds or None}
    return {key: value for key, value in given.items() if value is not None} | idle


def _sku(sku: Any) -> Any:
    return f"{sku.get('name')}, {sku.get('capacity', 1)} thousand tokens a minute" if isinstance(sku, dict) else sku


def _changes(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in changes.items() if name != "base_model")


def _parity(certificate: dict[str, Any] | None) -> str | None:
    if certificate is None:
        return None
    return (
        f"{'passed' if certificate['passed'] else 'failed'}: the trainer's token at "
        f"{certificate['agreement_but_ties']:.1%} of {certificate['places']} places, KL {certificate['mean_kl']:.4f}"
    )
