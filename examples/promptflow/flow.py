"""A ticket in, its team and a first reply out. Two calls of one deployment; it knows no server but by its variables."""

from pathlib import Path
from typing import TypedDict

from promptflow.core import Prompty
from promptflow.tracing import trace

HERE = Path(__file__).parent
TEAMS = ("billing", "delivery", "technical")


class Answer(TypedDict):
    """What the flow gives."""

    team: str
    said: str
    reply: str


@trace
def answer(ticket: str) -> Answer:
    """Which team a ticket is for, and what it is told first."""
    said = Prompty.load(source=HERE / "route.prompty")(ticket=ticket)
    team = team_in(said)
    reply = Prompty.load(source=HERE / "reply.prompty")(ticket=ticket, team=team)
    return {"team": team, "said": said, "reply": reply}


def team_in(text: str) -> str:
    """The team that a model named first; technical where it named none."""
    places = {team: text.lower().find(team) for team in TEAMS}
    named = {team: place for team, place in places.items() if place >= 0}
    return min(named, key=lambda team: named[team], default="technical")
