"""`finery export`: a model as files for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finery.cli import progress
from finery.cli.console import note, say, say_json
from finery.cli.figures import size
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect
from finery.core.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from finery.sdk import Finery


def export(
    model: Annotated[
        str, typer.Argument(show_default=False, help="A tuned model, a checkpoint or a base model.", metavar="MODEL")
    ],
    *,
    form: Annotated[
        str, typer.Option("--format", metavar="WORD", show_default=False, help="adapter (PEFT), merged or gguf.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", show_default=False, help="A folder that is new or empty."),
    ],
    quantization: Annotated[
        str | None,
        typer.Option("--quantization", metavar="NAME", help="Of gguf: f16, q8_0, q6_k, q5_k_m or q4_k_m; default f16."),
    ] = None,
    override: Annotated[
        bool, typer.Option("--override", help="Keep it also where it answers differently than the trained model.")
    ] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Write a model for other programs, with a certificate that it answers the same.

    adapter opens in PEFT, merged in transformers and vLLM, gguf in llama.cpp and, by its Modelfile, in Ollama.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InvalidRequest(f"{output} is not an empty folder; name a new one.")
    with connect(base_url, api_key) as finery:
        made = finery.exports.create(model, form, quantization=quantization, override=override)
        with progress.waiting(f"Writing {model} as {form} and comparing its answers"):
            made = finery.exports.wait(made["id"])
        if made["status"] == "failed":
            raise Conflict((made.get("error") or {}).get("message") or f"The export {made['id']} failed.")
        _fetch(finery, made, output)
        finery.exports.delete(made["id"])
    if as_json:
        say_json(made)
        return
    total = sum(file["bytes"] for file in made["files"])
    say(f"{output}  {len(made['files'])} files, {size(total)}")
    note(_verdict(made.get("certificate")))


def _fetch(finery: "Finery", made: dict[str, Any], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for file in made["files"]:
        with progress.bytes_bar(f"Fetching {file['path']}") as show:
            finery.exports.download(made["id"], file, output, show)


def _verdict(certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return "A head's files are the very ones of training; there are no answers to compare."
    share = f"{certificate['agreement_but_ties']:.1%} of {certificate['places']} tokens"
    if certificate["passed"]:
        return f"It answers as the trained model does: the same in {share} (parity.json)."
    return f"It answers differently than the trained model: the same in {share} only (parity.json)."
