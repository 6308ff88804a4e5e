"""The gate in the path of a request: prompt before, completion after, by the policy of the name that was asked.

One gate a request, opened before anything is generated. It knows texts, not routes: chat, completions and responses
pass through the same code. What happens when the filter itself fails is the policy's to say; by default nothing passes.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

from finery.control import blocklists, chat, guards, memorised, policies, works
from finery.control.models import ResolvedModel
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import ContentFiltered, CorruptArtifact, NotFound, TooLarge, Unavailable
from finery.core.policies import FILTER_ERROR, Judgement, OnFilterError, Policy, Source, Verdict, judge
from finery.safety.blocklists import Matcher
from finery.safety.classifier import MAX_CHARACTERS
from finery.safety.filter import FilterError
from finery.safety.overlaps import LONGEST_RUN_CHARACTERS, Runs
from finery.safety.windows import WINDOW, passages

log = logging.getLogger(__name__)

AskGuard = Callable[[], Awaitable[Verdict]]

BLOCKED_MESSAGE = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. What is filtered, and how a policy changes that, is told in docs/safety.md."
)
"""Begins with Azure's words: clients look for `content management policy`."""

_DOCUMENTS = re.compile(r'"""\s*<documents>(.*?)</documents>\s*"""', re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A part of a prompt and whose it is."""

    text: str
    role: str
    """user: attacks are looked for; document: indirect attacks are; anything else: harms alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """A policy at work on one request."""

    plane: ControlPlane
    caller: Caller
    policy: Policy
    prompt_results: Mapping[str, Any]
    """Azure's `content_filter_results` of the prompt; empty where nothing was looked for."""
    look: "Look"
    """What is looked for in the completion."""
    asked: str = ""
    """The prompt, for a guard."""

    async def judge_completion(self, text: str, begin: int = 0) -> Judgement:
        """What the policy makes of a completion's text from a place on; what stands before was judged already, and is
        read again as far as harm could hide across the border.

        Raises:
            Unavailable: the filter failed, and nothing passes where it does.
        """
        parts = [Said(text=passage, role="assistant") for passage in passages(text, begin)]
        written = text[max(0, begin - LONGEST_RUN_CHARACTERS) :]
        guard = _guard(self.plane, self.caller, self.policy, Source.COMPLETION, self.asked, text[_shown(begin) :])
        return await _judged(
            self.plane, self.caller, self.policy, Source.COMPLETION, parts, self.look, [written], guard
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a policy looks for in one direction besides what the classifier finds, made ready."""

    lists: Mapping[str, Matcher] = field(default_factory=dict)
    runs: Mapping[str, Runs] = field(default_factory=dict)
    """By the detection that they are."""
    failure: Unavailable | None = None
    """Why it can't be looked for."""


async def open_gate(plane: ControlPlane, caller: Caller, name: str, prompt: Sequence[Said]) -> Gate:
    """Let a prompt through, or not.

    Raises:
        UnknownModel: no deployment and no model of that name.
        ContentFiltered: the policy blocks it; `results` say why.
        TooLarge: longer than the filter reads.
        Unavailable: the filter failed, and nothing passes where it does.
    """
    model = await asyncio.to_thread(chat.find, plane, caller, name)
    policy = await asyncio.to_thread(policies.of_name, plane, caller, name)
    before = await asyncio.to_thread(_look, plane, caller, policy, Source.PROMPT, model)
    after = await asyncio.to_thread(_look, plane, caller, policy, Source.COMPLETION, model)
    written = [part.text for part in prompt]
    asked = "\n\n".join(written)
    guard = _guard(plane, caller, policy, Source.PROMPT, asked, None)
    judgement = await _judged(plane, caller, policy, Source.PROMPT, prompt, before, written, guard)
    if judgement.blocked:
        with plane.traffic.watch(caller.project.id, name) as watch:
            for reason in judgement.reasons:
                watch.filtered("prompt", reason)
            raise ContentFiltered(BLOCKED_MESSAGE, param="prompt", results=judgement.results)
    return Gate(plane=plane, caller=caller, policy=policy, prompt_results=judgement.results, look=after, asked=asked)


def said(messages: Sequence[Mapping[str, Any]]) -> list[Said]:
    """The texts of a conversation, each message's documents apart."""
    found: list[Said] = []
    for message in messages:
        role, text = str(message.get("role")), _text_of(message.get("content"))
        documents = _DOCUMENTS.findall(text)
        found += [Said(text=document, role="document") for document in documents]
        rest = _DOCUMENTS.sub("", text) if documents else text
        found.append(Said(text=rest, role="document" if role in ("tool", "function") else role))
        calls = message.get("tool_calls") or ()
        found += [Said(text=str(call["function"].get("arguments")), role=role) for call in calls if _is_call(call)]
    return [part for part in found if part.text.strip()]


def texts(prompts: Sequence[str]) -> list[Said]:
    """Bare texts, as a user's."""
    return [Said(text=prompt, role="user") for prompt in prompts if prompt.strip()]


async def examine(plane: ControlPlane, caller: Caller, given: Sequence[str]) -> list[Verdict]:
    """Verdicts of texts, without a policy.

    Raises:
        TooLarge: a text longer than the filter reads; Unavailable: the filter failed.
    """
    longest = max(map(len, given), default=0)
    if longest > MAX_CHARACTERS:
        raise TooLarge(
            f"A text has {longest:,} characters; the content filter reads {MAX_CHARACTERS:,}. Send it in parts."
        )
    try:
        return await plane.filter.examine(given, caller.project.id)
    except FilterError as error:
        log.error("content filter: %s", error)
        raise Unavailable(
            "The content filter gave no answer, so nothing is let through; try again.", code="content_filter_error"
        ) from error


def _look(plane: ControlPlane, caller: Caller, policy: Policy, source: Source, model: ResolvedModel) -> Look:
    try:
        lists = blocklists.matchers(plane, caller, policy, source)
    except NotFound as error:
        raise Unavailable(
            f"The policy '{policy.name}' can't be kept: {error.message}", code="content_filter_error"
        ) from None
    runs = {}
    try:
        if policy.filter("protected_material_text", source):
            runs["protected_material_text"] = works.runs(plane, caller)
        if policy.filter("memorised_training_rows", source) and model.tuned:
            runs["memorised_training_rows"] = memorised.runs(plane, model.tuned)
    except (CorruptArtifact, Unavailable) as error:
        log.error("what the policy %s looks for: %s", policy.name, error.message)
        return Look(failure=Unavailable(error.message, code="content_filter_error"))
    return Look(lists=lists, runs=runs)


def _shown(begin: int) -> int:
    """Where the part of a completion begins that a guard is shown."""
    return max(0, begin - WINDOW // 2)


def _guard(
    plane: ControlPlane, caller: Caller, policy: Policy, source: Source, prompt: str, completion: str | None
) -> AskGuard | None:
    if policy.guard is None or policy.filter("guard", source) is None:
        return None
    return partial(guards.examine, plane, caller, policy.guard, prompt, completion)


async def _judged(
    plane: ControlPlane,
    caller: Caller,
    policy: Policy,
    source: Source,
    parts: Sequence[Said],
    look: Look,
    written: Sequence[str],
    guard: AskGuard | None,
) -> Judgement:
    """`written`: the texts in which words of others are looked for."""
    if not policy.looks_at(source):
        return Judgement()
    if not parts:
        return judge(policy, source, Verdict())
    try:
        if look.failure:
            raise look.failure
        verdicts, guarded = await asyncio.gather(
            examine(plane, caller, [part.text for part in parts]), guard() if guard else _nothing()
        )
    except (TooLarge, Unavailable):
        if policy.on_filter_error == OnFilterError.BLOCK:
            raise
        return Judgement(results=FILTER_ERROR)
    looked = await asyncio.to_thread(_looked, look, parts, written)
    told = map(_of_role, parts, verdicts)
    return judge(policy, source, reduce(Verdict.join, told, looked.join(guarded)))


async def _nothing() -> Verdict:
    return Verdict()


def _looked(look: Look, parts: Sequence[Said], written: Sequence[str]) -> Verdict:
    detected = {name for name, runs in look.runs.items() if any(runs.occur_in(text) for text in written)}
    return Verdict(detected=frozenset(detected), blocklist_matches=_matches(parts, look.lists))


def _of_role(part: Said, verdict: Verdict) -> Verdict:
    """Attacks count only where they can be: a user attacks, a document attacks indirectly."""
    beside = {"user": {"indirect_attack"}, "document": {"jailbreak"}}.get(part.role, {"jailbreak", "indirect_attack"})
    return Verdict(severities=verdict.severities, detected=verdict.detected - beside, scores=verdict.scores)


def _matches(parts: Sequence[Said], lists: Mapping[str, Matcher]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, item.text) for name, matcher in lists.items() for part in parts for item in matcher.find(part.text)
    )


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") or part.get("refusal") for part in content if isinstance(part, dict))
        return "\n".join(str(part) for part in parts if part)
    return ""


def _is_call(call: Any) -> bool:
    return isinstance(call, dict) and isinstance(call.get("function"), dict)
