"""The classifier as OpenAI's moderation sees it: thirteen categories, flagged or not. Knows no policy and no route.

Some of OpenAI's categories are what two heads agree on: `harassment/threatening` is harassment with violence,
`illicit/violent` is illicit with violence, `self-harm/instructions` is self-harm asked for as illicit advice is, and
`self-harm/intent` the rest of self-harm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finery.control import screening
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.policies import Verdict

_MEDIUM = 4
"""From this severity on a text is flagged, as the default policy blocks it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moderation:
    """What one text is."""

    categories: Mapping[str, bool]
    scores: Mapping[str, float]

    @property
    def flagged(self) -> bool:
        """Whether it is anything."""
        return any(self.categories.values())


async def moderate(plane: ControlPlane, caller: Caller, texts: Sequence[str]) -> list[Moderation]:
    """A moderation of each text. Raises as `screening.examine`."""
    return [_moderation(verdict) for verdict in await screening.examine(plane, caller, texts)]


def _moderation(verdict: Verdict) -> Moderation:
    scores = _scores(verdict.scores)
    severe = {name: severity >= _MEDIUM for name, severity in verdict.severities.items()}
    parents = {
        "hate": severe["hate"],
        "sexual": severe["sexual"],
        "violence": severe["violence"],
        "self-harm": severe["self_harm"],
        "harassment": scores["harassment"] >= 0.5,
        "illicit": scores["illicit"] >= 0.5,
    }
    flags = {name: parents[name.split("/")[0]] and ("/" not in name or score >= 0.5) for name, score in scores.items()}
    return Moderation(categories=flags, scores=scores)


def _scores(found: Mapping[str, float]) -> dict[str, float]:
    head = {name: found.get(name, 0.0) for name in _HEADS}
    instructions = min(head["self_harm"], head["illicit"])
    return {
        "harassment": head["harassment"],
        "harassment/threatening": min(head["harassment"], head["violence"]),
        "hate": head["hate"],
        "hate/threatening": head["hate_threatening"],
        "illicit": head["illicit"],
        "illicit/violent": min(head["illicit"], head["violence"]),
        "self-harm": head["self_harm"],
        "self-harm/instructions": instructions,
        "self-harm/intent": max(head["self_harm"] - instructions, 0.0),
        "sexual": head["sexual"],
        "sexual/minors": head["sexual_minors"],
        "violence": head["violence"],
        "violence/graphic": head["violence_graphic"],
    }


_HEADS = (
    "harassment", "hate", "hate_threatening", "illicit", "self_harm", "sexual", "sexual_minors", "violence",
    "violence_graphic",
)  # fmt: skip
