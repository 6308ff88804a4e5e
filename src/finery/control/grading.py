"""Grading one sample: whatever kind of grader it is, a grade comes of it, if only one that says what went wrong.

Grading models are asked through `Ask`, held to JSON by a schema; a python grader runs locked in (`python_grader`).
"""

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finery.control import asking
from finery.control.asking import Ask
from finery.core.access import Caller
from finery.core.errors import FineryError
from finery.evaluation import computed, evaluators, graders, similarity, templates
from finery.evaluation.graders import Grade, GradeFailed
from finery.evaluation.python_grader import PythonGraderFailed

Json = Mapping[str, Any]

MAX_JUDGE_TOKENS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Grader:
    """What grades need beyond the grader itself."""

    caller: Caller
    ask: Ask
    embedding_model: str = ""
    """Whose vectors `cosine` compares, unless the grader names a model."""

    async def grade(self, grader: Json, *, item: Any, sample: Json) -> Grade:
        """The grade of one sample; never raises for what a grader or a model does."""
        blank = Grade(name=grader["name"], type=grader["type"])
        names = {"item": item, "sample": sample}
        try:
            graded = await self._graded(grader, names, blank)
        except (FineryError, PythonGraderFailed, GradeFailed) as error:
            return blank.failed(*computed.fault(error))
        if graded.errors or grader["type"] == "label_model":
            return graded
        passed = bool(graded.score) if grader["type"] == "string_check" else graders.passes(grader, graded.score)
        return dataclasses.replace(graded, passed=passed)

    async def _graded(self, grader: Json, names: Json, blank: Grade) -> Grade:
        kind = grader["type"]
        if kind == "text_similarity" and grader["evaluation_metric"] == "cosine":
            kind = "cosine"
        compute = computed.COMPUTED.get(kind)
        if compute is not None:
            return dataclasses.replace(blank, score=await asyncio.to_thread(compute, grader, names))
        asked = {
            "cosine": self._cosine,
            "score_model": self._score_model,
            "label_model": self._label_model,
            "multi": self._multi,
            "azure_ai_evaluator": self._evaluator,
        }
        return await asked[kind](grader, names, blank)

    async def _cosine(self, grader: Json, names: Json, blank: Grade) -> Grade:
        texts = [templates.render(grader[field], names) for field in ("input", "reference")]
        model = grader.get("model") or self.embedding_model
        if not model:
            raise GradeFailed("other_error", "cosine needs a model for its vectors; give the grader a field 'model'.")
        body = {"model": model, "input": texts}
        status, answer = await asking.patiently(self.ask, self.caller, "/v1/embeddings", body)
        if status >= 400:
            raise GradeFailed("model_grader_server_error", asking.fault(answer))
        one, other = (found["embedding"] for found in answer["data"])
        return dataclasses.replace(
            blank, score=similarity.cosine(one, other), tokens={model: answer["usage"]["total_tokens"]}
        )

    async def _score_model(self, grader: Json, names: Json, blank: Grade) -> Grade:
        low, high = graders.range_of(grader)
        said, graded = await self._judge(grader, _messages(grader, names), {"result": {"type": "number"}}, blank)
        score = float(said["result"])
        if not low <= score <= high:
            raise GradeFailed("model_grader_parse_error", f"The model gave {score:g}, outside {low:g} to {high:g}.")
        return dataclasses.replace(graded, score=score)

    async def _label_model(self, grader: Json, names: Json, blank: Grade) -> Grade:
        field = {"label": {"type": "string", "enum": list(grader["labels"])}}
        said, graded = await self._judge(grader, _messages(grader, names), field, blank)
        passed = said["label"] in grader["passing_labels"]
        return dataclasses.replace(graded, score=float(passed), passed=passed)

    async def _evaluator(self, grader: Json, names: Json, blank: Grade) -> Grade:
        values = {name: templates.render(str(text), names) for name, text in grader["data_mapping"].items()}
        metric = evaluators.metric_of(grader)
        if metric is not None:
            score = await asyncio.to_thread(metric, values["response"], values["ground_truth"])
            return dataclasses.replace(blank, score=score)
        judge = {"model": evaluators.judge_model(grader)}
        field = {"score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}}
        said, graded = await self._judge(judge, evaluators.question(grader, values), field, blank)
        return dataclasses.replace(graded, score=float(said["score"]))

    async def _multi(self, grader: Json, names: Json, blank: Grade) -> Grade:
        inside = graders.inner(grader)
        return computed.combined(
            grader,
            {name: await self.grade(each, item=names["item"], sample=names["sample"]) for name, each in inside.items()},
        )

    async def _judge(
        self, grader: Json, messages: list[dict[str, str]], field: dict[str, Any], blank: Grade
    ) -> tuple[dict[str, Any], Grade]:
        """What a model says under a schema of one field, and the grade as far as it goes."""
        schema = {"type": "object", "properties": field, "required": list(field), "additionalProperties": False}
        drawn = dict(grader.get("sampling_params") or {})
        most = drawn.pop("max_completions_tokens", None) or drawn.pop("max_completion_tokens", None)
        body = {
            "temperature": 0,
            "seed": 0,
            **{name: value for name, value in drawn.items() if name in ("temperature", "top_p", "seed")},
            "model": grader["model"],
            "messages": messages,
            "max_completion_tokens": most or MAX_JUDGE_TOKENS,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "grade", "schema": schema, "strict": True},
            },
        }
        status, answer = await asking.patiently(self.ask, self.caller, "/v1/chat/completions", body)
        if status >= 400:
            raise GradeFailed("model_grader_server_error", asking.fault(answer))
        choice, usage = answer["choices"][0], answer["usage"]
        text = choice["message"]["content"] or ""
        try:
            said = json.loads(text)
            said[next(iter(field))]
        except (ValueError, KeyError, TypeError):
            raise GradeFailed(
                "model_grader_parse_error", f"The model answered {text[:200]!r}, which is no grade."
            ) from None
        sample = {"input": messages, "output": [choice["message"]], "finish_reason": choice["finish_reason"]}
        graded = dataclasses.replace(
            blank,
            sample=sample | {"model": grader["model"], "usage": usage},
            tokens={grader["model"]: usage["total_tokens"]},
        )
        return said, graded


def _messages(grader: Json, names: Json) -> list[dict[str, str]]:
    return [
        {
            "role": message["role"],
            "content": "".join(templates.render(text, names) for text in graders.content_texts(message["content"])),
        }
        for message in grader["input"]
    ]
