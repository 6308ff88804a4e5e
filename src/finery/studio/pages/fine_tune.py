"""The fine-tune wizard, in the guide's steps and words: name, task type and training data, validation data, batch size
multiplier, learning rate and epochs, submit. What was chosen is kept until the job is submitted."""

import json
from functools import partial
from typing import Any

from nicegui import ui
from nicegui.element import Element

from finery.core.hyperparameters import AUTO, KNOBS, Knob
from finery.sdk.wire import ApiError, Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.pages import pricing
from finery.studio.pages.catalog import CHOICE_NAMES, TASK_NAMES
from finery.studio.pages.data import draw_check, file_names
from finery.studio.pages.models import offered
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

DRAFT = "fine-tune"
STEPS = ("Name", "Training data", "Validation data", "Parameters", "Review")

PREFERENCES = "preferences"
REINFORCEMENT = "reinforcement"
_METHODS = {PREFERENCES: "dpo", REINFORCEMENT: "reinforcement"}
"""Task types that are methods of their own; all others are supervised."""
METHOD_NAMES = {PREFERENCES: "Preferences (DPO)", REINFORCEMENT: "Reinforcement (a grader)"}
_GRADER_EXAMPLE = (
    '{"type": "string_check", "name": "same", "operation": "ilike", '
    '"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}'
)
ADVANCED = (
    "training_method",
    "optimizer",
    "loss",
    "schedule",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "max_tokens_per_example",
    "early_stopping_patience",
    "checkpoint_interval_steps",
    "precision",
)
"""Knobs under *Advanced*; the API has the rest."""

_FILES_OFFERED = 200


async def show(visit: Visit, model: str = "", training_file: str = "", like: str = "") -> None:
    """The wizard; `model`, `training_file` and `like` (a job) are what was chosen elsewhere."""
    visit.title(visit.t("Fine-tune"))
    models = (await visit.api.get("/v1/models"))["data"]
    draft = visit.draft(DRAFT)
    if like:
        draft.clear()
        draft.update(from_job(await visit.api.get(f"/v1/fine_tuning/jobs/{part(like)}")))
    if model and draft.get("model") != model:
        draft.update(model=model, step=0)
    if training_file:
        draft["training_file"] = training_file
    if not models:
        with parts.empty(
            "apps", visit.t("No base model on this machine yet"), visit.t("Whoever runs the server brings one there.")
        ):
            parts.link_button(visit.t("Model catalog"), "/catalog", primary=True)
        return
    await _Wizard(visit, draft, [found["id"] for found in offered(models, draft.get("model"))]).begin()


class _Wizard:
    def __init__(self, visit: Visit, draft: dict[str, Any], models: list[str]) -> None:
        self._visit = visit
        self._draft = draft
        self._models = models
        self._moving = False

    async def begin(self) -> None:
        visit = self._visit
        with parts.heading(visit.t("Fine-tune"), visit.t("What you choose is kept until you submit it.")):
            parts.button(visit.t("Start over"), visit.guard(self._start_over), icon="restart_alt")
        self._rail = box("ol", "rail", aria_label=visit.t("Steps"))
        self._panel = box("section", "card")
        await self._go(self._step)

    @property
    def _step(self) -> int:
        return int(self._draft.get("step", 0))

    async def _go(self, step: int) -> None:
        """Show a step; one that can't be drawn leaves everything at the step before."""
        if self._moving:  # A second click on Next means the same step.
            return
        self._moving = True
        step = max(0, min(step, len(STEPS) - 1))
        before = list(self._panel)
        with self._panel:
            place = box("div", "stack")
        place.visible = not before
        try:
            with place:
                fault = await self._draw(step)
        except BaseException:
            place.delete()
            raise
        finally:
            self._moving = False
        for old in before:
            old.delete()
        place.visible = True
        self._fault = fault
        self._draft["step"] = step
        self._draw_rail()

    async def _start_over(self) -> None:
        self._visit.forget(DRAFT)
        self._draft = self._visit.draft(DRAFT)
        await self._go(0)

    def _draw_rail(self) -> None:
        visit = self._visit
        self._rail.clear()
        with self._rail:
            for number, name in enumerate(STEPS):
                state = "done" if number < self._step else "now" if number == self._step else "ahead"
                with box("li", f"rail__step rail__step--{state}") as item:
                    if state == "now":
                        item.props["aria-current"] = "step"
                    Text("span", str(number + 1), "rail__number")
                    Text("span", visit.t(name))

    async def _draw(self, step: int) -> Element:
        """A step; returns where what is wrong with it will be said."""
        Text("h2", self._visit.t(STEPS[step]))
        await (self._name, self._training, self._validation, self._parameters, self._review)[step]()
        fault = box("div")
        self._buttons(step)
        return fault

    def _buttons(self, step: int) -> None:
        visit, last = self._visit, step == len(STEPS) - 1
        with box("div", "actions actions--form"):
            if step:
                parts.button(visit.t("Back"), visit.guard(self._back))
            if last:
                parts.button(visit.t("Submit"), visit.guard(self._submit), icon="check", look="primary").mark("submit")
            else:
                parts.button(visit.t("Next"), visit.guard(self._next), look="primary").mark("next")

    async def _back(self) -> None:
        await self._go(self._step - 1)

    async def _next(self) -> None:
        fault = (self._name_fault, self._training_fault, self._validation_fault, lambda: "")[self._step]()
        self._fault.clear()
        if fault:
            with self._fault:
                forms.fault(fault)
            return
        await self._go(self._step + 1)

    # Step by step: what is asked, and what is wrong with the answer.

    async def _name(self) -> None:
        visit, draft = self._visit, self._draft
        with box("div", "fields"):
            forms.choice_field(
                draft,
                "model",
                visit.t("Base model"),
                {name: name for name in self._models},
                default=self._models[0],
                hint=visit.t("A tuned model can be tuned further."),
            )
            forms.text_field(
                draft,
                "suffix",
                visit.t("Name of the fine-tuned model"),
                placeholder="support",
                hint=visit.t("Letters, digits, dots and dashes."),
            )

    def _name_fault(self) -> str:
        name = (self._draft.get("suffix") or "").strip()
        if not name:
            return self._visit.t("Give the model a name.")
        allowed = name.replace("-", "").replace("_", "").replace(".", "")
        if not (allowed.isascii() and allowed.isalnum() and name[0].isalnum() and len(name) <= 64):
            return self._visit.t("The name may hold up to 64 letters, digits, dots, dashes and underscores.")
        return ""

    async def _training(self) -> None:
        visit, draft = self._visit, self._draft
        tasks = {AUTO: visit.t("As the data says")} | {name: visit.t(text) for name, text in TASK_NAMES.items()}
        tasks |= {name: visit.t(text) for name, text in METHOD_NAMES.items()}
        with box("div", "fields"):
            task = forms.choice_field(draft, "task", visit.t("Task type"), tasks, default="chat")
        place = box("div", "fields")

        def follow() -> None:
            place.clear()
            if task.value == REINFORCEMENT:
                with place:
                    forms.area_field(
                        draft,
                        "grader",
                        visit.t("Grader, as JSON"),
                        hint=visit.t("It says how good an answer is: string_check, text_similarity, python or multi."),
                        placeholder=_GRADER_EXAMPLE,
                    )

        task.on_value_change(follow)
        follow()
        await self._file("training_file", visit.t("Training data"))

    def _training_fault(self) -> str:
        if self._draft.get("task") == REINFORCEMENT and not isinstance(read_grader(self._draft), dict):
            return self._visit.t("The grader is a JSON object with type and name.")
        return "" if self._draft.get("training_file") else self._visit.t("Choose training data or upload a file.")

    async def _validation(self) -> None:
        visit, draft = self._visit, self._draft
        choice = forms.radio_field(
            draft,
            "validation",
            visit.t("Validation data"),
            {
                "split": visit.t("Automatic split of training data"),
                "file": visit.t("Choose or upload a file"),
                "none": visit.t("None"),
            },
            default="split",
        )
        place = box("div")

        async def follow() -> None:
            place.clear()
            with place:
                if choice.value == "split":
                    draft.setdefault("split", 10)
                    with box("div", "fields"):
                        forms.number_field(
                            draft,
                            "split",
                            visit.t("Share for validation, in percent"),
                            hint=visit.t("The rows are drawn by the seed; repeats stay on one side."),
                            step=1,
                        )
                elif choice.value == "file":
                    await self._file("validation_file", visit.t("Validation data"))
                else:
                    parts.say(
                        "warn", visit.t("Without validation data nobody sees when the model only learns by heart.")
                    )

        choice.on_value_change(visit.guard(follow))
        await follow()

    def _validation_fault(self) -> str:
        draft, t = self._draft, self._visit.t
        if draft["validation"] == "file" and not draft.get("validation_file"):
            return t("Choose validation data or upload a file.")
        if draft["validation"] == "split" and not 0 < (draft.get("split") or 0) <= 50:
            return t("The share for validation is above 0 and at most 50 percent.")
        return ""

    async def _file(self, name: str, label: str) -> None:
        """Choose a file of the project or upload one; what the check found stands below it."""
        visit, draft = self._visit, self._draft
        page = await visit.api.get("/v1/files", purpose="fine-tune", limit=_FILES_OFFERED)
        options = {file["id"]: f"{file['filename']} ({parts.size(file['bytes'])})" for file in page["data"]}
        if draft.get(name) and draft[name] not in options:
            kept = await visit.api.find(f"/v1/files/{part(draft[name])}")
            if kept is None:
                del draft[name]
                parts.say("warn", visit.t("The file that was chosen is gone: somebody deleted it. Choose another one."))
            else:
                options[kept["id"]] = kept["filename"]

        async def taken(file: Json) -> None:
            options[file["id"]] = file["filename"]
            choice.set_options(options, value=file["id"])

        with box("div", "fields"):
            choice = forms.choice_field(draft, name, label, options)
            forms.upload_field(visit, visit.t("Or upload from this computer"), taken)
        place = box("div")

        async def look() -> None:
            place.clear()
            if choice.value:
                with place:
                    file = await visit.api.get(f"/v1/files/{part(choice.value)}")
                    await draw_check(visit, file, model=draft["model"])

        choice.on_value_change(visit.guard(look))
        await look()

    async def _parameters(self) -> None:
        visit, draft = self._visit, self._draft
        Text("p", visit.t("Left empty, Finery decides once it has counted your data."), "lead")
        base = await visit.api.find(f"/finery/v1/models/{part(draft['model'])}")
        rate = base["learning_rate"] if base else None
        hint = (
            visit.t("Times the model's own {rate}: 1 keeps it.", rate=f"{rate:g}")
            if rate
            else visit.t("Times the model's own: 1 keeps it.")
        )
        with box("div", "fields"):
            _knob(visit, draft, "batch_size_multiplier", visit.t("Batch size multiplier"), placeholder="1")
            _knob(visit, draft, "learning_rate_multiplier", visit.t("Learning rate"), hint=hint)
            _knob(visit, draft, "n_epochs", visit.t("Epochs"))
        with ui.expansion(visit.t("Advanced"), icon="tune").classes("advanced"), box("div", "fields"):
            for name in ADVANCED:
                _knob(visit, draft, name, visit.t(_label(name)))
            forms.number_field(draft, "seed", visit.t("Seed"), step=1)

    async def _review(self) -> None:
        visit, draft = self._visit, self._draft
        body = job_body(draft)
        task = draft.get("task", AUTO)
        names = await file_names(visit, draft["training_file"], body.get("validation_file"))
        pairs: list[tuple[str, parts.Cell]] = [
            (visit.t("Name of the fine-tuned model"), draft["suffix"]),
            (visit.t("Base model"), draft["model"]),
            (
                visit.t("Task type"),
                visit.t((TASK_NAMES | METHOD_NAMES).get(task, "As the data says")),
            ),
            (visit.t("Training data"), partial(_link_file, draft["training_file"], names)),
            (visit.t("Validation data"), _validation_words(visit, draft, names)),
            (visit.t("Batch size multiplier"), _or_auto(visit, draft.get("batch_size_multiplier"))),
            (visit.t("Learning rate"), _or_auto(visit, draft.get("learning_rate_multiplier"))),
            (visit.t("Epochs"), _or_auto(visit, draft.get("n_epochs"))),
        ]
        pairs += [
            (visit.t(_label(name)), visit.t(CHOICE_NAMES.get(str(body[name]), str(body[name]))))
            for name in ADVANCED
            if name in body
        ]
        parts.facts(pairs)
        await _draw_estimate(visit, body)
        knobs = {name: value for name, value in body.items() if name in KNOBS}
        hyper = body["method"][body["method"]["type"]]["hyperparameters"]
        job = {"model": body["model"], "training_file": body["training_file"], "hyperparameters": knobs | hyper}
        await pricing.draw(visit, body["model"], job=job)

    async def _submit(self) -> None:
        visit = self._visit
        job = await visit.api.post("/v1/fine_tuning/jobs", job_body(self._draft))
        visit.forget(DRAFT)
        visit.go(f"/fine-tuning/{job['id']}")


def job_body(draft: dict[str, Any]) -> Json:
    """What was chosen, as the API takes it; what was left open isn't in it."""
    task = draft.get("task", AUTO)
    method = _METHODS.get(task, "supervised")
    body: Json = {
        "model": draft["model"],
        "training_file": draft["training_file"],
        "suffix": draft["suffix"].strip(),
        "seed": int(draft["seed"]) if draft.get("seed") is not None else None,
    }
    if draft.get("validation") == "file":
        body["validation_file"] = draft["validation_file"]
    elif draft.get("validation") == "split":
        body["validation_split"] = draft["split"] / 100
    given = {name: _number(KNOBS[name], draft[name]) for name in KNOBS if _is_given(draft, name)}
    hyper = {name: given.pop(name) for name in ("n_epochs", "batch_size", "learning_rate_multiplier") if name in given}
    body["method"] = {"type": method, method: {"hyperparameters": hyper}}
    if task == REINFORCEMENT:
        body["method"][method]["grader"] = read_grader(draft)
    if task != AUTO and task not in _METHODS:
        body["task"] = task
    return body | {name: value for name, value in given.items() if name != "task"}


def read_grader(draft: dict[str, Any]) -> Any:
    """The grader that was typed; None where it is no JSON."""
    try:
        return json.loads(draft.get("grader") or "")
    except ValueError:
        return None


async def _draw_estimate(visit: Visit, body: Json) -> None:
    """What the job would take; a refusal is shown, and is what submitting would be answered with."""
    method = body["method"]["type"]
    chosen = body["method"][method]
    settings = {name: value for name, value in body.items() if name in KNOBS} | chosen["hyperparameters"]
    asked = {"model": body["model"], "training_file": body["training_file"], "method": method, "options": settings}
    if "grader" in chosen:
        asked["grader"] = chosen["grader"]
    Text("h3", visit.t("Estimate"))
    try:
        found = await visit.api.post("/finery/v1/estimates", asked)
    except ApiError as error:
        forms.fault(error.message)
        return
    rows = visit.t("{n} to train, {m} to validate", n=f"{found['training_rows']:,}", m=f"{found['validation_rows']:,}")
    unknown = visit.t("not known yet: the job measures it in its first step")
    seconds, peak = found["seconds"], found["peak_bytes"]
    answers = [(visit.t("Answers to grade"), f"{found['answers']:,}")] if found["answers"] else []
    parts.facts(
        [
            (visit.t("Rows"), rows),
            (visit.t("Tokens an epoch"), f"{found['tokens']:,}"),
            (visit.t("Epochs"), str(found["n_epochs"])),
            (visit.t("Batch size"), str(found["batch_size"])),
            (visit.t("Steps"), f"{found['steps']:,}"),
            *answers,
            (visit.t("Time"), visit.t("about {time}", time=parts.duration(visit, seconds)) if seconds else unknown),
            (visit.t("Memory"), visit.t("about {size}", size=parts.size(peak)) if peak else unknown),
        ]
    )


def _is_given(draft: dict[str, Any], name: str) -> bool:
    return draft.get(name) not in (None, "", AUTO) and name not in ("task", "validation_split")


def _number(knob: Knob, value: Any) -> Any:
    if knob.kind == "integer" and float(value).is_integer():
        return int(value)
    return value


def from_job(job: Json) -> dict[str, Any]:
    """A draft like an earlier job."""
    draft: dict[str, Any] = {"step": 0, "model": job["model"], "training_file": job["training_file"]}
    draft["suffix"] = job["user_provided_suffix"] or ""
    method = job["method"]["type"]
    draft["task"] = next((task for task, name in _METHODS.items() if name == method), job["task"])
    if method == REINFORCEMENT:
        draft["grader"] = json.dumps(job["method"][method]["grader"], indent=2)
    draft |= {name: job["hyperparameters"][name] for name in ("n_epochs", "learning_rate_multiplier")}
    draft |= {name: job[name] for name in (*ADVANCED, "batch_size_multiplier") if job.get(name) is not None}
    if job["validation_file"]:
        draft |= {"validation": "file", "validation_file": job["validation_file"]}
    elif job["validation_split"]:
        draft |= {"validation": "split", "split": round(100 * job["validation_split"])}
    else:
        draft["validation"] = "none"
    return {name: value for name, value in draft.items() if value != AUTO or name == "task"}


def _knob(visit: Visit, draft: dict[str, Any], name: str, label: str, *, placeholder: str = "", hint: str = "") -> None:
    knob = KNOBS[name]
    hint = hint or visit.t(knob.help)
    if knob.kind == "choice":
        default = knob.default
        options = {choice: choice for choice in knob.choices}
        if default == AUTO:
            options = {AUTO: visit.t("auto")} | options
        forms.choice_field(draft, name, label, options, default=default, hint=hint)
        return
    shown = placeholder or (visit.t("auto") if knob.default == AUTO else str(knob.default))
    forms.number_field(draft, name, label, hint=hint, placeholder=shown, step=1 if knob.kind == "integer" else None)


def _label(name: str) -> str:
    names: dict[str, str] = {
        "training_method": "Method",
        "optimizer": "Optimizer",
        "loss": "Loss function",
        "schedule": "Schedule",
        "lora_rank": "LoRA rank",
        "lora_alpha": "LoRA alpha",
        "lora_dropout": "LoRA dropout",
        "warmup_ratio": "Warm-up ratio",
        "weight_decay": "Weight decay",
        "max_grad_norm": "Largest gradient",
        "max_tokens_per_example": "Tokens per example",
        "early_stopping_patience": "Early stopping patience",
        "checkpoint_interval_steps": "Steps between checkpoints",
        "precision": "Precision",
    }
    return names[name]


def _link_file(file_id: str, names: dict[str, str]) -> None:
    parts.link(names.get(file_id, file_id), f"/data/{file_id}")


def _validation_words(visit: Visit, draft: dict[str, Any], names: dict[str, str]) -> parts.Cell:
    if draft["validation"] == "file":
        return partial(_link_file, draft["validation_file"], names)
    if draft["validation"] == "split":
        return f"{visit.t('Automatic split of training data')}: {draft['split']:g} %"
    return visit.t("None")


def _or_auto(visit: Visit, value: Any) -> str:
    return visit.t("auto") if value in (None, "", AUTO) else f"{value:g}"
