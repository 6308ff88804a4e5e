"""Doctor: is the server's machine fit, and the way out of what is missing."""

from functools import partial

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import parts
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

NAMES = ("Python", "SQLite", "Disk", "Memory", "Cores", "bf16", "Models")
"""Of checks; the others are called as what they check."""

STATES = ("in order", "missing", "good to know")
"""Of a check: true, false, none of both."""


async def show(visit: Visit) -> None:
    """Every check; what failed comes first."""
    visit.title(visit.t("Doctor"))
    with parts.heading(visit.t("Doctor"), visit.t("Is the server's machine fit, and what is missing?")):
        parts.button(visit.t("Look again"), ui.navigate.reload, icon="refresh")
    checks = (await visit.api.get("/finery/v1/doctor"))["data"]
    failed = [check for check in checks if check["ok"] is False]
    if failed:
        parts.say(
            "warn", visit.t("{n} of {all} checks failed; each with its way out below.", n=len(failed), all=len(checks))
        )
    else:
        parts.say("good", visit.t("Nothing is missing."))
    parts.table(
        visit.t("Checks"),
        [visit.t("Check"), visit.t("State"), visit.t("Found")],
        [
            [visit.t(check["name"]), partial(_state, visit, check), partial(_found, visit, check)]
            for check in sorted(checks, key=lambda check: check["ok"] is not False)
        ],
    )


def _state(visit: Visit, check: Json) -> None:
    word = STATES[(True, False).index(check["ok"]) if check["ok"] is not None else 2]
    look = {True: "good", False: "bad"}.get(check["ok"], "idle")
    Text("span", visit.t(word), f"badge badge--{look}")


def _found(visit: Visit, check: Json) -> None:
    with box("div", "stack"):
        Text("span", check["found"])
        if check["way_out"]:
            parts.say("note", check["way_out"])
