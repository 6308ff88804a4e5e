"""A long conversation in a few sentences: the model sums it up, and later responses go on from that.

What a client is given is an opaque item, whose `encrypted_content` names the summary kept here for its project. It
knows no wire format.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from finery.control import gated, screening
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.serving.protocol import Delta, Finish, GenerateRequest
from finery.storage import records

KEEP_SECONDS = 30 * 24 * 3600
"""As long as responses are kept."""

MAX_SUMMARY_TOKENS = 400

REQUEST = (
    "Sum up the conversation so far for yourself: what is wanted, what is known and decided, names and numbers, what "
    "is still open. Leave out nothing that is needed to go on."
)
PREFIX = "Summary of the conversation so far: "


@dataclass(frozen=True, kw_only=True, slots=True)
class Compaction:
    """A summary, by its id, and what it took."""

    id: str
    finish: Finish


async def compact(plane: ControlPlane, caller: Caller, model: str, messages: Sequence[dict[str, Any]]) -> Compaction:
    """Let a model sum up a conversation. Raises as `chat.generate`, and as the content filter does."""
    asked = GenerateRequest(
        messages=[*messages, {"role": "user", "content": REQUEST}], max_tokens=MAX_SUMMARY_TOKENS, temperature=0.0
    )
    text = ""
    finish: Finish | None = None
    # What the caller says is looked at; our own request is not.
    gate = await screening.open_gate(plane, caller, model, screening.said(messages))
    async with aclosing(gated.generate(gate, model, asked)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Delta):
                text += piece.text
            elif isinstance(piece, Finish):
                finish = piece
    assert finish is not None
    record = Record(
        id=new_id("cmp_"),
        project_id=caller.project.id,
        kind=Kind.COMPACTION,
        body={"summary": text.strip()},
        created_at=now(),
        expires_at=now() + KEEP_SECONDS,
    )
    with plane.database.write() as connection:
        records.insert_record(connection, record)
    return Compaction(id=record.id, finish=finish)


def expand(plane: ControlPlane, caller: Caller, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, each compaction as a system message with its summary.

    Raises:
        InvalidRequest: a compaction that isn't kept here, naming its place.
    """
    return [
        _summary(plane, caller, item, place) if item["type"] == "compaction" else item
        for place, item in enumerate(items)
    ]


def forget_expired(plane: ControlPlane) -> None:
    """Forget summaries whose time is over."""
    with plane.database.read() as connection:
        expired = [record for record in records.list_expired(connection, now()) if record.kind == Kind.COMPACTION]
    for record in expired:
        with plane.database.write() as connection:
            records.remove(connection, record.project_id, Kind.COMPACTION, record.id)


def _summary(plane: ControlPlane, caller: Caller, item: dict[str, Any], place: int) -> dict[str, Any]:
    with plane.database.read() as connection:
        kept = records.get(connection, caller.project.id, Kind.COMPACTION, str(item.get("encrypted_content")))
    if kept is None:
        raise InvalidRequest(
            f"input[{place}] is a compaction that isn't kept here; they are kept 30 days, for their own project.",
            param=f"input[{place}]",
        )
    content = [{"type": "input_text", "text": PREFIX + kept.body["summary"]}]
    return {"type": "message", "role": "system", "content": content}
