"""Rows of a JSONL file → items to pack: tokens, weights, targets. It does not know models, losses or torch.

chat            {"messages": [...], "tools"?: [...]}                    one document, trained where the template says
completion      {"prompt": str, "completion": str}                      one document, trained on completion and end
preference      {"input": {...}, "preferred_output": [...], "non_preferred_output": [...]}      two documents
reinforcement   {"messages": [..., the user's], "tools"?: [...], fields for the grader}         a prompt, and its row
classification  {"text": str, "label": str}                             one document and the place of its label
multi_label     {"text": str, "labels": [str]}                          one document and a 0 or 1 for each label
regression      {"text": str, "target": number}                         one document and its value
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finery.core.errors import FineryError, InvalidRequest
from finery.modeling.template import ChatTemplate, Example
from finery.training.spec import RunSpec

Row = dict[str, Any]
HEAD_TASKS = ("classification", "multi_label", "regression")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One row of a file, ready to be packed."""

    documents: tuple[Example, ...]
    """One; for preferences two: the preferred, then the other."""
    weight: float
    """Its share in the mean loss of a step: the sum of its trained weights, the weight of its class, or 1."""
    target: tuple[float, ...] = ()
    """What a head shall say: the place of a label, a 0 or 1 for each label, or a value."""
    reference: tuple[float, ...] = ()
    """Log-probabilities of the two documents under the reference model (preferences, once they are known)."""

    @property
    def num_tokens(self) -> int:
        """Tokens it puts into a pass."""
        return sum(len(document.tokens) for document in self.documents)

    @property
    def num_trained(self) -> int:
        """Tokens that the loss of a language model looks at; nothing predicts a document's first token."""
        return sum(1 for document in self.documents for weight in document.weights[1:] if weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt(Item):
    """A row whose answers are to be drawn."""

    row: Row
    """What the grader sees as `item`."""
    place: int
    """Which row of its file it is, from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt(Item):
    """A drawn answer behind its prompt; `reference` has a log-probability a token of the answer, or none at all."""

    advantage: float
    """How much better than the other answers to its prompt."""
    sampled: tuple[float, ...]
    """Log-probability of each token of the answer when it was drawn."""


def read_prompts(path: Path, spec: RunSpec) -> list[Prompt]:
    """As `read_items`, for reinforcement."""
    items = read_items(path, spec)
    assert all(isinstance(item, Prompt) for item in items)
    return [replace(item, place=place) for place, item in enumerate(items) if isinstance(item, Prompt)]


def read_items(path: Path, spec: RunSpec) -> list[Item]:
    """Every row of `path` as an item, in order. InvalidRequest names the first line that can't be trained on."""
    template = ChatTemplate.load(Path(spec.model_folder))
    items = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                item = _item(json.loads(line), template, spec)
                _check(item, spec)
            except (FineryError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise InvalidRequest(
                    f"Line {number} of {path.name} can't be trained on: {_reason(error)}", code="invalid_training_row"
                ) from error
            items.append(item)
    if not items:
        raise InvalidRequest(f"{path.name} has no examples; give it at least one line.", code="empty_file")
    return items


def num_outputs(spec: RunSpec) -> int:
    """How many numbers the head of this run gives; 0 where a run has no head."""
    if spec.task not in HEAD_TASKS:
        return 0
    return 1 if spec.task == "regression" else len(spec.labels)


def _item(row: Row, template: ChatTemplate, spec: RunSpec) -> Item:
    if spec.objective == "reinforcement":
        tokens = template.encode_prompt(row["messages"], row.get("tools"))
        prompt = Example(tokens=tokens, weights=[0.0] * len(tokens))
        return Prompt(documents=(prompt,), weight=1.0, row=row, place=0)
    if spec.objective == "preference":
        return Item(documents=template.encode_preference(row), weight=1.0)
    if spec.task in HEAD_TASKS:
        tokens = template.encode_text(row["text"])
        target, weight = _target(row, spec)
        return Item(documents=(Example(tokens=tokens, weights=[0.0] * len(tokens)),), weight=weight, target=target)
    example = template.encode_example(row)
    return Item(documents=(example,), weight=sum(example.weights[1:]))


def _target(row: Row, spec: RunSpec) -> tuple[tuple[float, ...], float]:
    """What the head shall say of this row, and the row's weight."""
    if spec.task == "regression":
        return (float(row["target"]),), 1.0
    if spec.task == "multi_label":
        chosen = {_place(label, spec) for label in row["labels"]}
        return tuple(float(place in chosen) for place in range(len(spec.labels))), 1.0
    place = _place(row["label"], spec)
    return (float(place),), spec.loss.class_weights[place] if spec.loss.class_weights else 1.0


def _place(label: str, spec: RunSpec) -> int:
    if label not in spec.labels:
        raise ValueError(f"its label {label!r} is none of this job's {len(spec.labels)} labels")
    return spec.labels.index(label)


def _check(item: Item, spec: RunSpec) -> None:
    longest = max(len(document.tokens) for document in item.documents)
    if spec.reinforcement is not None and longest + spec.reinforcement.max_completion_tokens > (
        spec.max_tokens_per_example
    ):
        raise ValueError(
            f"it has {longest} tokens and its answers up to {spec.reinforcement.max_completion_tokens}, this job "
            f"allows {spec.max_tokens_per_example} for both; shorten it, or lower max_completion_tokens"
        )
    if longest > spec.max_tokens_per_example:
        raise ValueError(
            f"it has {longest} tokens, this job allows {spec.max_tokens_per_example}; "
            "shorten it, or raise max_tokens_per_example if the model's context allows"
        )
    if not longest:
        raise ValueError("it has no tokens")
    if not all(math.isfinite(number) for number in item.target):
        raise ValueError(f"its target {item.target[0]} is not a finite number")
    if isinstance(item, Prompt):
        return
    if spec.task not in HEAD_TASKS and not all(any(document.weights[1:]) for document in item.documents):
        raise ValueError("it trains nothing: no assistant message with a weight above 0")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no field {error.args[0]!r}."
    text = str(error) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
