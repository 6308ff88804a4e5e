"""Opt-in capture of a deployment's conversations: off by default, redacted, kept for a time, turned into training data.

Conversations wait in memory for a few seconds, are masked off the way of the answers, and are written together. Those
with tools are left out: their answers are calls in the model's own words, which aren't rows of training data.
"""

import dataclasses
import json
import logging
from collections.abc import Iterator
from typing import Any

from finery.control import datasets, deployments, files
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.capture import Captured, CapturePolicy
from finery.core.datasets import DatasetVersion, Origin, check_dataset_name
from finery.core.errors import InvalidRequest
from finery.core.files import FileStatus
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.data import sensitive
from finery.data.faults import Fault
from finery.data.rows import parse
from finery.storage import datasets as dataset_rows
from finery.storage import deployments as deployment_rows
from finery.storage import records
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

_DAY = 24 * 3600


def set_policy(plane: ControlPlane, caller: Caller, name: str, policy: CapturePolicy) -> CapturePolicy:
    """Keep a deployment's conversations from now on.

    Raises:
        NotFound: no such deployment.
        InvalidRequest: a share or a time outside its range.
    """
    deployments.get(plane, caller, name)
    policy.check()
    record = Record(
        id=new_id("capture-"),
        project_id=caller.project.id,
        kind=Kind.CAPTURE_POLICY,
        owner=name,
        body=dataclasses.asdict(policy),
        created_at=now(),
    )
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.CAPTURE_POLICY, name)
        records.insert_record(connection, record)
    plane.traffic.capture(caller.project.id, name, policy)
    return policy


def get_policy(plane: ControlPlane, caller: Caller, name: str) -> CapturePolicy | None:
    """What is kept of a deployment's conversations; None where nothing is."""
    deployments.get(plane, caller, name)
    with plane.database.read() as connection:
        found = records.list_owned(connection, caller.project.id, Kind.CAPTURE_POLICY, name)
    return CapturePolicy(**found[-1].body) if found else None


def stop(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Keep no more; what was kept stays for its time."""
    deployments.get(plane, caller, name)
    save(plane)  # what was answered while it was on
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.CAPTURE_POLICY, name)
    plane.traffic.capture(caller.project.id, name, None)


def list_page(plane: ControlPlane, caller: Caller, name: str, cursor: Cursor) -> Page[Record]:
    """A deployment's kept conversations, newest first."""
    deployments.get(plane, caller, name)
    save(plane)
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.CAPTURED, cursor, owner=name)


def forget(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Forget a deployment's kept conversations; datasets made of them stay."""
    deployments.get(plane, caller, name)
    save(plane)
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.CAPTURED, name)


def to_dataset(
    plane: ControlPlane, caller: Caller, name: str, *, dataset: str, since: int | None, until: int | None
) -> DatasetVersion:
    """A new version of a dataset, made of the conversations that the model itself brought to an end.

    The same conversation with the same answer is one row. Answers that were cut off would teach to be cut off; one with
    a NUL character, which a model may well write, would make the whole file unreadable.

    Raises:
        InvalidRequest: nothing was kept in that time.
    """
    check_dataset_name(dataset)
    deployments.get(plane, caller, name)
    save(plane)
    with plane.database.read() as connection:
        kept = records.list_owned(connection, caller.project.id, Kind.CAPTURED, name)
    chosen = [one for one in kept if (since or 0) <= one.created_at < (until or 1 << 62)]
    ended = [one for one in chosen if one.status == "stop" and one.body["answer"].strip()]
    different = list(dict.fromkeys(_row(one) for one in ended))
    rows = [row for row in different if _is_readable(row)]
    if not rows:
        raise InvalidRequest(
            f"There are no whole conversations of '{name}' in that time ({len(chosen)} kept, {len(ended)} whole). "
            "Switch capture on, or choose another time.",
            param="since",
        )
    file = files.store(
        plane,
        caller.project.id,
        filename=f"{name}.captured.jsonl",
        purpose=datasets.FINE_TUNE,
        chunks=((row + "\n").encode() for row in rows),
    )
    record = {
        "deployment": name,
        "since": chosen[0].created_at,
        "until": chosen[-1].created_at,
        "kept": len(chosen),
        "rows": len(rows),
        "cut_off": len(chosen) - len(ended),
        "repeated": len(ended) - len(different),
        "unreadable": len(different) - len(rows),
        "masked": sum(one.body["masked"] for one in ended),
    }
    with plane.database.write() as connection:
        dataset_rows.insert_lineage(connection, file.id, origin=Origin.CAPTURE, parent_file_id="", record=record)
    checked = files.check(plane, file)
    if checked.status == FileStatus.ERROR:
        raise InvalidRequest(f"The kept conversations can't be trained on: {checked.status_details}", param="dataset")
    return datasets.add_version(plane, caller, dataset, file.id, f"Conversations of the deployment {name}")


def load(plane: ControlPlane) -> None:
    """Tell the traffic which deployments are captured, and that no others are."""
    as_of = plane.traffic.policy_changes
    with plane.database.read() as connection:
        kept = records.list_in(connection, Kind.CAPTURE_POLICY, "")
    plane.traffic.capture_only({(one.project_id, one.owner): CapturePolicy(**one.body) for one in kept}, as_of=as_of)


def save(plane: ControlPlane) -> None:
    """Write what was captured since the last time; nothing of a deployment that is gone."""
    with plane.traffic.saving_captured:
        kept = [_kept(captured, policy) for captured, policy in plane.traffic.take_captured()]
        if not kept:
            return
        with plane.database.write() as connection:
            for record in kept:
                if deployment_rows.get(connection, record.project_id, record.owner) is not None:
                    records.insert_record(connection, record)


def forget_expired(plane: ControlPlane) -> None:
    """Forget what was kept long enough."""
    with plane.database.write() as connection:
        records.remove_expired(connection, Kind.CAPTURED, now())


def _kept(captured: Captured, policy: CapturePolicy) -> Record:
    found: list[int] = []
    body = {"messages": captured.messages, "answer": captured.answer}
    if policy.redact:
        body = _masked(body, found)
    return Record(
        id=new_id("captured-"),
        project_id=captured.project_id,
        kind=Kind.CAPTURED,
        owner=captured.name,
        status=captured.outcome,
        body={
            **body,
            "masked": sum(found),
            "prompt_tokens": captured.prompt_tokens,
            "completion_tokens": captured.completion_tokens,
        },
        created_at=captured.at,
        expires_at=captured.at + policy.retention_days * _DAY,
    )


def _masked(value: Any, found: list[int]) -> Any:
    """The value with personal data and secrets in all its texts masked; how many were found is added to `found`."""
    if isinstance(value, str):
        text, counts = sensitive.mask(value)
        found.append(counts.total())
        return text
    if isinstance(value, dict):
        return {key: _masked(item, found) for key, item in value.items()}
    return [_masked(item, found) for item in value] if isinstance(value, list) else value


def _row(record: Record) -> str:
    answer = {"role": "assistant", "content": record.body["answer"]}
    messages: list[dict[str, Any]] = [*_plain(record.body["messages"]), answer]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def _is_readable(row: str) -> bool:
    """Whether training data may hold such a row."""
    try:
        parse(row.encode())
    except Fault:
        return False
    return True


def _plain(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Messages without what is null; what an earlier answer said is context, and trains nothing again."""
    for message in messages:
        told = {key: value for key, value in message.items() if value is not None}
        yield told | {"weight": 0} if told.get("role") == "assistant" else told
