"""Audit: who changed what, newest first; and whether the log is what was written."""

import asyncio
import json

from finery.sdk.wire import Json
from finery.studio import parts
from finery.studio.parts import box
from finery.studio.visit import Visit

_PAGE = 50


async def show(visit: Visit, before: int = 0) -> None:
    """A page of entries; `before` is the number of the last one seen."""
    visit.title(visit.t("Audit"))

    async def verify() -> None:
        answer = await visit.api.get("/finery/v1/audit/verify")
        said.clear()
        with said:
            _verdict(visit, answer)

    with parts.heading(
        visit.t("Audit"), visit.t("Every change, who made it and when, in a chain that shows tampering.")
    ):
        check = parts.button(visit.t("Check the chain"), visit.guard(verify), icon="verified_user")
    said = box("div")
    found = await visit.api.find("/finery/v1/audit", limit=_PAGE, before=before or None)
    if found is None:
        check.delete()
        parts.say("note", visit.t("Your key may not read the audit log. Owners and auditors may."))
        return
    if not found["data"] and not before:
        with parts.empty("history", visit.t("Nothing was changed yet"), visit.t("What people change stands here.")):
            parts.link_button(visit.t("Go to Home"), "/")
        return
    names = await _names(visit)
    parts.table(
        visit.t("Audit log"),
        [visit.t("Number"), visit.t("When"), visit.t("Who"), visit.t("Action"), visit.t("What"), visit.t("Details")],
        [
            [
                str(entry["number"]),
                parts.moment(visit, entry["created_at"]),
                _who(visit, entry, names),
                entry["action"],
                entry["target"],
                json.dumps(entry["details"], ensure_ascii=False) if entry["details"] else "–",
            ]
            for entry in found["data"]
        ],
    )
    with box("nav", "pager", aria_label=visit.t("More entries")):
        if before:
            parts.link_button(visit.t("Newest"), "/audit", icon="first_page")
        if found["has_more"]:
            parts.link_button(visit.t("Older"), f"/audit?before={found['data'][-1]['number']}", icon="chevron_right")


def _verdict(visit: Visit, answer: Json) -> None:
    if answer["valid"]:
        with parts.callout("good", visit.t("All {n} entries are what was written.", n=f"{answer['entries']:,}")):
            parts.chip(visit.t("last hash: {hash}", hash=answer["head"]))
    else:
        parts.say("bad", visit.t("Entry {n} is not what was written: the log was changed.", n=answer["broken_at"]))


async def _names(visit: Visit) -> dict[str, str]:
    """Names of keys and principals, as far as this person may see them."""
    keys, people = await asyncio.gather(
        visit.api.find("/finery/v1/keys"), visit.api.find("/finery/v1/roles/principals")
    )
    return {each["id"]: each["name"] for found in (keys, people) if found for each in found["data"]}


def _who(visit: Visit, entry: Json, names: dict[str, str]) -> str:
    who = entry["principal_id"] or entry["key_id"]
    return names.get(who, who) or visit.t("the server")
