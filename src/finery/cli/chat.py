"""`finery chat`: one question, or a conversation, with a deployment or a model."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finery.cli.console import note, plain
from finery.cli.options import ApiKey, BaseUrl, connect
from finery.core.errors import FineryError

if TYPE_CHECKING:
    from finery.sdk import Finery, Json

_CUT = {
    "length": "The answer was cut: it reached the most tokens allowed. Raise --max-tokens.",
    "content_filter": "The answer was stopped by the content filter.",
}


def chat(
    name: Annotated[str, typer.Argument(show_default=False, help="A deployment or a model.")],
    message: Annotated[
        str | None, typer.Argument(show_default=False, help="What to say; without it, a conversation begins.")
    ] = None,
    *,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="Instructions that come first.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="X", min=0, max=2, help="0 always takes the likeliest word."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", min=1, help="Longest answer, in tokens.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Ask a model something, or talk with it.

    Without a message a conversation begins: /reset starts it anew, Ctrl-C stops an answer, Ctrl-D ends it.
    """
    history: list[Json] = [{"role": "system", "content": system}] if system else []
    options = {"temperature": temperature, "max_tokens": max_tokens}
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read()
    with connect(base_url, api_key) as finery:
        if message is not None:
            answer(finery, name, [*history, {"role": "user", "content": message}], options)
            return
        converse(finery, name, history, options)


def converse(finery: "Finery", name: str, history: "list[Json]", options: dict[str, Any]) -> None:
    """Ask, answer, remember, until the person ends it."""
    import readline  # noqa: F401 (gives input() its line editing and history)

    start = list(history)
    note(f"Talking with {name}. /reset starts anew, Ctrl-C stops an answer, Ctrl-D ends.")
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return
        if line == "/reset":
            history = list(start)
            note("The conversation starts anew.")
            continue
        if not line:
            continue
        asked = [*history, {"role": "user", "content": line}]
        try:
            said = answer(finery, name, asked, options)
        except KeyboardInterrupt:
            note("\nStopped; the conversation goes on without that answer.")
            continue
        except FineryError as error:
            # One refused message (too long, filtered, a server that restarts) is no reason to lose the conversation.
            note(error.message, style="red")
            continue
        history = [*asked, {"role": "assistant", "content": said}]


def answer(finery: "Finery", name: str, messages: "list[Json]", options: dict[str, Any]) -> str:
    """Print an answer as it comes; the whole of it.

    Raises:
        FineryError: the server refused, or the answer broke off.
    """
    clean = plain if sys.stdout.isatty() else str
    pieces: list[str] = []
    reason: str | None = None
    try:
        for delta in finery.chat.stream(name, messages, **options):
            pieces.append(delta.text)
            reason = delta.finish_reason or reason
            sys.stdout.write(clean(delta.text))
            sys.stdout.flush()
    finally:
        if pieces:
            sys.stdout.write("\n")
    if reason in _CUT:
        note(_CUT[reason], style="yellow")
    return "".join(pieces)
