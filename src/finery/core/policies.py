"""Content filter policies (Azure's `raiPolicies`): what is looked for in prompts and completions, and what then
happens.

Also what a classifier found (`Verdict`) and how a policy reads it (`judge`). Knows no classifier and no storage.
Severities go from 0 to 7 as at Azure: safe 0–1, low 2–3, medium 4–5, high 6–7; the scale is Finery's own calibration.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from finery.core.errors import InvalidRequest

CATEGORIES = ("hate", "sexual", "violence", "self_harm")
"""Harms with a severity."""
DETECTIONS = (
    "jailbreak", "indirect_attack", "profanity", "personal_information", "protected_material_text",
    "memorised_training_rows", "guard",
)  # fmt: skip
"""What is there or isn't."""
OF_COMPLETIONS = ("memorised_training_rows",)
"""What can only be in what a model says."""
LEVELS = ("safe", "low", "medium", "high")

MAX_FILTERS = 40
MAX_GUARD_SECONDS = 60.0
MAX_BLOCKLISTS = 20


class Source(StrEnum):
    """Which direction a filter looks at."""

    PROMPT = "Prompt"
    COMPLETION = "Completion"


class Mode(StrEnum):
    """How streams are filtered: held back until they are checked, or annotated as they flow."""

    DEFAULT = "Default"
    ASYNCHRONOUS = "Asynchronous_filter"


class OnFilterError(StrEnum):
    """What happens where the filter itself fails: nothing passes, or all passes with a note."""

    BLOCK = "block"
    ANNOTATE = "annotate"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentFilter:
    """One category or detection in one direction."""

    name: str
    source: Source
    enabled: bool = True
    blocking: bool = True
    """False: annotated only."""
    severity_threshold: str | None = None
    """Low, Medium or High: what is at least so severe counts; None where there are no severities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlocklistUse:
    """A list of terms, looked for in one direction."""

    name: str
    source: Source
    blocking: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """A model that is asked about prompts and completions besides the classifier."""

    kind: str
    """What it is asked, and how its answers are read: `safety.guards.KINDS`."""
    deployment: str | None = None
    """One of the project's; None: the operator's guard on the network."""
    model: str | None = None
    """What the guard on the network calls it."""
    timeout_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What a deployment's prompts and completions have to pass."""

    name: str
    mode: Mode = Mode.DEFAULT
    on_filter_error: OnFilterError = OnFilterError.BLOCK
    content_filters: tuple[ContentFilter, ...] = ()
    blocklists: tuple[BlocklistUse, ...] = ()
    guard: Guard | None = None
    base_policy: str | None = None
    built_in: bool = False
    created_at: int = 0
    updated_at: int = 0

    def filter(self, name: str, source: Source) -> ContentFilter | None:
        """The filter of a category in a direction, None where it is switched off."""
        found = (f for f in self.content_filters if f.name == name and f.source == source and f.enabled)
        return next(found, None)

    def over(self, base: "Policy") -> "Policy":
        """This policy, with the filters and the guard of another where it names none. A guard blocks unless it says
        otherwise."""
        guard, filters = self.guard or base.guard, self.content_filters
        for more in (base.content_filters, _GUARDED if guard else ()):
            named = {(one.name, one.source) for one in filters}
            filters += tuple(one for one in more if (one.name, one.source) not in named)
        return dataclasses.replace(self, guard=guard, content_filters=filters)

    def looks_at(self, source: Source) -> bool:
        """Whether anything is looked for in a direction."""
        lists = any(use.source == source for use in self.blocklists)
        return lists or any(f.source == source and f.enabled for f in self.content_filters)

    @property
    def weakened(self) -> list[str]:
        """Where this blocks less than the default policy, in words; empty where it is at least as strict."""
        found = []
        for wanted in DEFAULT.content_filters:
            own = self.filter(wanted.name, wanted.source)
            name = f"{wanted.name} ({wanted.source})"
            if own is None:
                found.append(f"{name} is off")
            elif wanted.blocking and not own.blocking:
                found.append(f"{name} only annotates")
            elif wanted.severity_threshold and _rank(own) > _rank(wanted):
                found.append(f"{name} lets {wanted.severity_threshold} pass")
        if self.on_filter_error != OnFilterError.BLOCK:
            found.append("texts pass where the filter fails")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was found in a text."""

    severities: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(CATEGORIES, 0))
    """0 to 7 for each category."""
    detected: frozenset[str] = frozenset()
    """Those of DETECTIONS that are there."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Probabilities, 0 to 1, by the heads' names."""
    blocklist_matches: tuple[tuple[str, str], ...] = ()
    """(list, term) for each match."""

    def join(self, other: "Verdict") -> "Verdict":
        """What was found in either of two texts."""
        return Verdict(
            severities={c: max(self.severities.get(c, 0), other.severities.get(c, 0)) for c in CATEGORIES},
            detected=self.detected | other.detected,
            scores={k: max(self.scores.get(k, 0), other.scores.get(k, 0)) for k in {*self.scores, *other.scores}},
            blocklist_matches=self.blocklist_matches + other.blocklist_matches,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a policy makes of a verdict."""

    blocked: bool = False
    results: Mapping[str, Any] = field(default_factory=dict)
    """Azure's `content_filter_results`; empty where nothing was looked for."""

    @property
    def reasons(self) -> list[str]:
        """What blocked, by name."""
        return [name for name, result in self.results.items() if result.get("filtered")]


def judge(policy: Policy, source: Source, verdict: Verdict) -> Judgement:
    """Azure's annotations of a text, and whether it passes."""
    results: dict[str, Any] = {}
    for name in CATEGORIES:
        wanted = policy.filter(name, source)
        if wanted is not None:
            severity = verdict.severities.get(name, 0)
            filtered = wanted.blocking and severity // 2 >= _rank(wanted)
            results[name] = {"filtered": filtered, "severity": LEVELS[severity // 2]}
    for name in DETECTIONS:
        wanted = policy.filter(name, source)
        if wanted is not None:
            detected = name in verdict.detected
            results[name] = {"filtered": wanted.blocking and detected, "detected": detected}
    uses = {use.name: use for use in policy.blocklists if use.source == source}
    if uses:
        matched = {name for name, _ in verdict.blocklist_matches}
        details = [{"id": name, "filtered": name in matched and use.blocking} for name, use in uses.items()]
        results["custom_blocklists"] = {"filtered": any(d["filtered"] for d in details), "details": details}
    return Judgement(blocked=any(result["filtered"] for result in results.values()), results=results)


FILTER_ERROR: Mapping[str, Any] = {
    "error": {"code": "content_filter_error", "message": "The contents are not filtered"}
}
"""Azure's annotation where the filter failed and the policy lets texts pass."""


def check(policy: Policy) -> Policy:
    """Refuse a policy that can't be.

    Raises:
        InvalidRequest: an unknown filter, a threshold that isn't one, two filters for the same, naming it.
    """
    if len(policy.content_filters) > MAX_FILTERS or len(policy.blocklists) > MAX_BLOCKLISTS:
        raise InvalidRequest(
            f"A policy has at most {MAX_FILTERS} filters and {MAX_BLOCKLISTS} blocklists.", param="content_filters"
        )
    seen: set[tuple[str, str]] = set()
    for wanted in policy.content_filters:
        if wanted.name not in CATEGORIES + DETECTIONS:
            known = ", ".join(CATEGORIES + DETECTIONS)
            raise InvalidRequest(f"There is no filter {wanted.name!r}; there are {known}.", param="content_filters")
        if (wanted.name, wanted.source) in seen:
            raise InvalidRequest(
                f"The policy has two filters {wanted.name} for {wanted.source}s; keep one.", param="content_filters"
            )
        seen.add((wanted.name, wanted.source))
        if wanted.name in OF_COMPLETIONS and wanted.source == Source.PROMPT:
            raise InvalidRequest(
                f"The filter {wanted.name} is for completions: give it the source Completion.", param="content_filters"
            )
        if wanted.severity_threshold is not None and wanted.severity_threshold not in _THRESHOLDS:
            raise InvalidRequest(
                f"The severity threshold of {wanted.name} is {wanted.severity_threshold!r}; it is Low, Medium or High.",
                param="content_filters",
            )
    if policy.guard and not 0 < policy.guard.timeout_seconds <= MAX_GUARD_SECONDS:
        raise InvalidRequest(
            f"The guard's timeout is {policy.guard.timeout_seconds:g} s; it is more than 0 and at most "
            f"{MAX_GUARD_SECONDS:g} s.",
            param="guard",
        )
    return policy


def from_body(body: Mapping[str, Any]) -> Policy:
    """The policy that `dataclasses.asdict` made a body of."""
    filters = (ContentFilter(**{**f, "source": Source(f["source"])}) for f in body["content_filters"])
    uses = (BlocklistUse(**{**use, "source": Source(use["source"])}) for use in body["blocklists"])
    return Policy(
        **{
            **body,
            "mode": Mode(body["mode"]),
            "on_filter_error": OnFilterError(body["on_filter_error"]),
            "content_filters": tuple(filters),
            "blocklists": tuple(uses),
            "guard": Guard(**body["guard"]) if body.get("guard") else None,
        }
    )


_THRESHOLDS = ("Low", "Medium", "High")


def _rank(wanted: ContentFilter) -> int:
    return 1 + _THRESHOLDS.index(wanted.severity_threshold or "Medium")


def _both(name: str) -> list[ContentFilter]:
    return [ContentFilter(name=name, source=source, severity_threshold="Medium") for source in Source]


_GUARDED = tuple(ContentFilter(name="guard", source=source) for source in Source)

DEFAULT = Policy(
    name="default",
    content_filters=(
        *(one for name in CATEGORIES for one in _both(name)),
        ContentFilter(name="jailbreak", source=Source.PROMPT),
        ContentFilter(name="indirect_attack", source=Source.PROMPT, blocking=False),
        ContentFilter(name="protected_material_text", source=Source.COMPLETION, blocking=False),
    ),
    built_in=True,
)
"""Medium, both directions; attacks on the prompt are blocked."""

OFF = Policy(name="off", on_filter_error=OnFilterError.ANNOTATE, built_in=True)
"""Nothing is looked for."""

BUILT_IN = {
    "default": DEFAULT,
    "default-asynchronous": dataclasses.replace(DEFAULT, name="default-asynchronous", mode=Mode.ASYNCHRONOUS),
    "off": OFF,
}
ALIASES = {"Microsoft.Default": "default", "Microsoft.DefaultV2": "default", "Microsoft.Nil": "off"}
"""Azure's names of the same."""
