"""`finery models`: the catalog, what lies on this machine, what was tuned.

`pull` and `import` bring base models onto the machine they run on; everything about tuned models goes to the server.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finery.cli import progress
from finery.cli.console import fields, note, say, say_json, table
from finery.cli.figures import ago, count, moment, parameters, size
from finery.cli.options import ApiKey, AsJson, BaseUrl, Home, connect, home_folder, noun
from finery.core.errors import Unauthenticated, Unavailable, UnknownModel

if TYPE_CHECKING:
    from finery.modeling.sources import LocalModel

app = noun("The catalog, base models, tuned models.")

ModelId = Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help="Name of the model.")]


@app.command("list")
def list_(home: Home = None, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List base models and tuned models."""
    from finery.modeling.catalog import CATALOG

    served, problem = _served(base_url, api_key, home)
    local = {model.id: model for model in local_models(home_folder(home))} if problem else {}
    ready = set(local) if problem else {str(model["id"]) for model in served if not model.get("parent")}
    bases = [_base(name, CATALOG.get(name), name in ready) for name in [*CATALOG, *sorted(ready - set(CATALOG))]]
    tuned = [
        {"id": m["id"], "kind": "tuned", "ready": True, "base": m["parent"], "created": m.get("created")}
        for m in served
        if m.get("parent")
    ]
    if problem:
        note(f"{problem} Tuned models are not shown.")
    if as_json:
        say_json(bases + tuned)
        return
    rows = [
        (
            m["id"],
            "ready" if m["ready"] else "to pull",
            parameters(m["parameters"]),
            count(m["context_tokens"]),
            m["licence"],
        )
        for m in bases
    ]
    table(("BASE MODEL", "STATE", "SIZE", "CONTEXT", "LICENCE"), rows, "The catalog is empty.")
    if tuned:
        say()
        table(("TUNED MODEL", "BASE", "CREATED"), [(m["id"], m["base"], ago(m["created"])) for m in tuned], "")


@app.command("pull")
def pull(model: ModelId, home: Home = None) -> None:
    """Bring a base model onto this machine."""
    from finery.modeling.catalog import find

    entry = find(model)
    sources = _sources()
    note(f"{entry.name}, {entry.licence} ({entry.licence_url}), from {entry.source.split('#')[0]}")
    with progress.share_bar(f"Pulling {model}") as show_share:
        local = sources.pull(_models_folder(home), model, show_share)
    say(f"{model} is ready in {local.folder}")


@app.command("import")
def import_(
    folder: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, show_default=False, help="A Hugging Face folder with safetensors."
        ),
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", show_default=False, help="The name it shall have.")],
    licence: Annotated[
        str, typer.Option("--licence", metavar="NAME", help="Its licence, shown with the model.")
    ] = "unknown",
    home: Home = None,
) -> None:
    """Take a base model from a folder."""
    sources = _sources()
    with progress.waiting(f"Importing {folder}"):
        local = sources.import_folder(_models_folder(home), folder, name, licence=licence)
    say(f"{name} is ready in {local.folder}")


@app.command("show")
def show(
    model: ModelId, home: Home = None, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Show a base or a tuned model."""
    from finery.modeling.catalog import CATALOG

    local = next((found for found in local_models(home_folder(home)) if found.id == model), None)
    entry = CATALOG.get(model)
    if local is None and entry is None:
        _show_served(model, base_url, api_key, as_json=as_json)
        return
    facts = _base(model, entry, local is not None) | _on_disk(local)
    if as_json:
        say_json(facts)
        return
    fields(
        (
            ("Id", model),
            ("Name", facts.get("name")),
            ("Family", facts.get("family")),
            ("Parameters", parameters(facts["parameters"])),
            ("Context", f"{count(facts['context_tokens'])} tokens" if facts["context_tokens"] else None),
            ("Licence", f"{facts['licence'] or 'unknown'}  {facts.get('licence_url') or ''}".strip()),
            ("Source", facts.get("source")),
            ("Revision", facts.get("revision")),
            ("Description", facts.get("description")),
            ("State", f"ready in {facts['folder']}" if local else f"to pull: finery models pull {model}"),
            ("On disk", size(facts["bytes"]) if local else None),
        )
    )


@app.command("delete")
def delete(model: ModelId, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Delete a tuned model.

    Refused while it is deployed.
    """
    with connect(base_url, api_key) as finery:
        finery.models.delete(model)
    say(f"Deleted {model}")


def _served(base_url: str | None, api_key: str | None, home: Path | None) -> tuple[list[dict[str, Any]], str | None]:
    """The server's models; none, and why, when no server was named and none runs here."""
    try:
        with connect(base_url, api_key, home) as finery:
            return list(finery.models.list()), None
    except (Unavailable, Unauthenticated) as error:
        if base_url:
            raise
        return [], error.message


def _show_served(model: str, base_url: str | None, api_key: str | None, *, as_json: bool) -> None:
    try:
        with connect(base_url, api_key) as finery:
            found = finery.models.retrieve(model)
    except Unavailable as error:
        raise UnknownModel(
            f"{model} is neither in the catalog nor on this machine, and the server can't be asked: {error.message}"
        ) from None
    if as_json:
        say_json(found)
        return
    fields(
        (
            ("Id", found["id"]),
            ("Base", found.get("parent")),
            ("Job", found.get("job_id")),
            ("Project", found.get("owned_by")),
            ("Created", moment(found.get("created"))),
        )
    )


def _base(name: str, entry: Any, ready: bool) -> dict[str, Any]:
    facts = (
        "name",
        "family",
        "parameters",
        "context_tokens",
        "licence",
        "licence_url",
        "source",
        "revision",
        "description",
    )
    return {"id": name, "kind": "base", "ready": ready, **{fact: getattr(entry, fact, None) for fact in facts}}


def _on_disk(local: "LocalModel | None") -> dict[str, Any]:
    if local is None:
        return {}
    files = (path for path in local.folder.rglob("*") if path.is_file())
    return {
        "folder": str(local.folder),
        "bytes": sum(path.stat().st_size for path in files),
        "context_tokens": local.context_tokens,
        "licence": local.licence,
    }


def _models_folder(home: Path | None) -> Path:
    from finery.settings import Settings

    return Settings.from_environment(home=home_folder(home)).models_folder


def local_models(home: Path) -> "list[LocalModel]":
    """Base models on this machine; none where this is a bare client."""
    try:
        return list(_sources().list_local(_models_folder(home)))
    except Unavailable:
        return []


def _sources() -> Any:
    """`finery.modeling.sources`.

    Raises:
        Unavailable: this is a bare client, without the parts that handle models.
    """
    try:
        from finery.modeling import sources
    except ImportError as error:
        raise Unavailable(
            f"This needs the server parts ({error.name} is missing): pip install 'finery[server]'."
        ) from None
    return sources
