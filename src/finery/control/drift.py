"""Whether what a deployment is asked, and answers, has moved away from the data that its model was trained on.

Lengths, refusals and filter hits are counted of every answer, without keeping a word. What is asked is compared by its
tokens, which needs prompts that capture kept (`control.capture`).
"""

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finery.control import capture, chat, metrics
from finery.control.models import ResolvedModel
from finery.control.plane import ControlPlane
from finery.core import drift
from finery.core.access import Caller
from finery.core.drift import Signal
from finery.core.errors import InvalidRequest
from finery.core.records import Kind
from finery.core.traffic import Histogram, Tally
from finery.data.refusals import is_refusal
from finery.data.rows import iterate
from finery.modeling.template import ChatTemplate
from finery.storage import jobs, records

BASELINE_ROWS = 2000
"""Training rows that are looked at."""

_SEED = 17
_KEPT_BASELINES = 8
_BASELINES: "dict[tuple[str, Path], Asked]" = {}
"""By the rows' SHA-256 and the model's folder: neither ever changes, and reading them takes seconds."""


@dataclass(kw_only=True, slots=True)
class Asked:
    """What many conversations ask and are answered, as numbers."""

    prompt_lengths: Histogram = field(default_factory=Histogram)
    answer_lengths: Histogram = field(default_factory=Histogram)
    refusals: int = 0
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    """Token ids."""

    @property
    def among(self) -> int:
        """Conversations."""
        return self.answer_lengths.count


def of_deployment(plane: ControlPlane, caller: Caller, name: str, *, seconds: int) -> dict[str, Any]:
    """What moved in the last `seconds`: one entry a signal.

    Raises:
        NotFound: no such deployment.
        InvalidRequest: a window that is none.
        Unavailable: the deployment isn't ready.
    """
    window = metrics.window(plane, caller, name, seconds)
    model = chat.find(plane, caller, name)
    baseline, live = _baseline(plane, model), _captured(plane, caller, name, model, window.since)
    known = baseline or Asked()
    signals = [
        drift.length_signal("prompt_length", known.prompt_lengths, window.tally.prompt_lengths),
        drift.length_signal("answer_length", known.answer_lengths, window.tally.answer_lengths),
        drift.share_signal("refusal_rate", (known.refusals, known.among), (window.tally.refusals, window.tally.whole)),
        drift.share_signal("filter_rate", _filtered(window.before), _filtered(window.tally)),
        _token_signal(known, live),
    ]
    return {
        "name": name,
        "since": window.since,
        "until": window.until,
        "answers": window.tally.requests,
        "captured": len(live.prompts),
        "training_rows": known.among,
        "drifted": [signal.name for signal in signals if signal.drifted],
        "signals": [dataclasses.asdict(signal) for signal in signals],
    }


def asked_of(rows: Sequence[dict[str, Any]], template: ChatTemplate) -> Asked:
    """Rows of messages as numbers; what a template refuses, or what isn't chat, is left out."""
    asked = Asked()
    for row in rows:
        messages = row.get("messages") or []
        if len(messages) < 2 or messages[-1].get("role") != "assistant":
            continue
        answer = messages[-1].get("content")
        try:
            prompt = template.encode_prompt(messages[:-1], row.get("tools"))
        except InvalidRequest:
            continue
        if isinstance(answer, str):
            asked.prompts.append(tuple(prompt))
            asked.prompt_lengths.observe(len(prompt))
            # The token that ends the turn is one of the answer's, here as in a served answer.
            asked.answer_lengths.observe(len(template.encode_text(answer)) - len(template.bos_ids) + 1)
            asked.refusals += is_refusal(answer)
    return asked


def _baseline(plane: ControlPlane, model: ResolvedModel) -> Asked | None:
    """The training rows of a tuned model; None for a base model, and where the rows are gone."""
    if model.tuned is None:
        return None
    with plane.database.read() as connection:
        job = jobs.get(connection, model.tuned.project_id, model.tuned.job_id)
    sha256 = job.data["training"]["sha256"] if job and "training" in job.data else None
    if sha256 is None or not plane.blobs.has(sha256):
        return None
    known = (sha256, model.base.folder)
    if known not in _BASELINES:
        with plane.blobs.as_path(sha256) as path:
            rows = [row for _, row in itertools.islice(iterate(path), BASELINE_ROWS)]
        if len(_BASELINES) >= _KEPT_BASELINES:
            _BASELINES.pop(next(iter(_BASELINES)))
        _BASELINES[known] = asked_of(rows, ChatTemplate.load(model.base.folder))
    return _BASELINES[known] if _BASELINES[known].among else None


def _captured(plane: ControlPlane, caller: Caller, name: str, model: ResolvedModel, since: int) -> Asked:
    capture.save(plane)
    with plane.database.read() as connection:
        kept = records.list_owned(connection, caller.project.id, Kind.CAPTURED, name)
    rows = [
        {"messages": [*one.body["messages"], {"role": "assistant", "content": one.body["answer"]}]}
        for one in kept[-BASELINE_ROWS:]
        if one.created_at >= since
    ]
    return asked_of(rows, ChatTemplate.load(model.base.folder)) if rows else Asked()


def _filtered(tally: Tally) -> tuple[int, int]:
    return tally.filtered_answers, tally.whole + tally.filtered_answers


def _token_signal(baseline: Asked, live: Asked) -> Signal:
    """Jensen–Shannon distance of the prompts' tokens, against that of as many prompts drawn from the training rows.

    Few prompts differ from many by chance alone; the ratio takes that out.
    """
    if min(len(live.prompts), len(baseline.prompts) // 2) < drift.LEAST_ANSWERS:
        return Signal(name="prompt_tokens", baseline=None, live=None, distance=None, measure="js_ratio", drifted=None)
    shuffled = random.Random(_SEED).sample(baseline.prompts, len(baseline.prompts))  # noqa: S311 - a sample, no secret
    size = min(len(live.prompts), len(shuffled) // 2)
    drawn, rest = _counted(shuffled[:size]), _counted(shuffled[size:])
    by_chance, found = drift.js(drawn, rest), drift.js(_counted(live.prompts[-size:]), rest)
    ratio = found / max(by_chance, 0.01)
    return Signal(
        name="prompt_tokens",
        baseline=by_chance,
        live=found,
        distance=ratio,
        measure="js_ratio",
        drifted=ratio > drift.MUCH_JS_RATIO,
    )


def _counted(prompts: Sequence[tuple[int, ...]]) -> Counter[int]:
    return Counter(token for prompt in prompts for token in prompt)
