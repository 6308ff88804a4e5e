"""Every knob of a job in one table: its kind, range and default; and how "auto" becomes a number.

Knows nothing of HTTP, torch or files. OpenAI's three hyperparameters and the fields its wire lacks stand in the same
table, so that they are validated, echoed and documented in the same way.
"""

from dataclasses import dataclass
from typing import Any, Literal

from finery.core.errors import InvalidRequest

AUTO = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """One thing a caller may set on a job."""

    name: str
    kind: Literal["integer", "number", "boolean", "choice", "strings", "numbers"]
    default: Any
    """`"auto"` where Finery decides once it has seen the data."""
    help: str
    low: float | None = None
    high: float | None = None
    above_low: bool = False
    """The range is open at its lower end."""
    choices: tuple[str, ...] = ()


def _integer(name: str, default: Any, low: int, high: int, help_text: str) -> Knob:
    return Knob(name=name, kind="integer", default=default, low=low, high=high, help=help_text)


def _number(name: str, default: Any, low: float, high: float, help_text: str, *, above: bool = False) -> Knob:
    return Knob(name=name, kind="number", default=default, low=low, high=high, help=help_text, above_low=above)


def _choice(name: str, choices: tuple[str, ...], default: Any, help_text: str) -> Knob:
    return Knob(name=name, kind="choice", default=default, choices=choices, help=help_text)


HYPERPARAMETERS = (
    _integer("n_epochs", AUTO, 1, 50, "Times the training data is gone through."),
    _integer("batch_size", AUTO, 1, 256, "Examples per optimizer step."),
    _number("learning_rate_multiplier", AUTO, 0, 100, "Factor on the base model's own learning rate.", above=True),
    _number("beta", AUTO, 0, 2, "DPO: how strongly the model is tied to its reference.", above=True),
    _number(
        "compute_multiplier", AUTO, 0.00001, 10, "Reinforcement: factor on the answers to a prompt, 8.", above=True
    ),
    _integer("eval_interval", AUTO, 1, 100000, "Reinforcement: steps between validations; auto is once an epoch."),
    _integer("eval_samples", AUTO, 1, 100, "Reinforcement: answers to each prompt of the validation set."),
    _choice("reasoning_effort", ("default", "low", "medium", "high"), "default", "Taken; no model here reasons apart."),
)
"""OpenAI's hyperparameters, inside `method.<type>.hyperparameters`."""

EXTRAS = (
    _number("validation_split", None, 0, 0.5, "Share of the training rows held out for validation.", above=True),
    _number("batch_size_multiplier", 1, 0, 64, "Factor on the batch size.", above=True),
    _choice("task", ("chat", "completion", "classification", "multi_label", "regression"), AUTO, "What is learned."),
    _choice("training_method", ("lora", "qlora", "full"), "lora", "What is trained: adapters, or all weights."),
    _integer("lora_rank", 16, 1, 512, "Rank of the adapters."),
    _number("lora_alpha", AUTO, 0, 4096, "Numerator of the adapter's scale; auto is twice the rank.", above=True),
    _number("lora_dropout", 0.0, 0, 0.9, "Share of adapter inputs dropped while training."),
    Knob(name="lora_targets", kind="strings", default=["all-linear"], help="Linear layers that get an adapter."),
    Knob(name="rank_stabilised", kind="boolean", default=False, help="Scale adapters by alpha / sqrt(rank) (rsLoRA)."),
    Knob(name="dora", kind="boolean", default=False, help="Learn magnitude apart from direction (DoRA)."),
    _choice(
        "optimizer", ("adamw", "adam", "sgd", "adafactor", "lion", "adamw_8bit"), "adamw", "How weights are moved."
    ),
    _choice("schedule", ("linear", "cosine", "constant"), "linear", "How the learning rate falls."),
    _number("warmup_ratio", 0.05, 0, 0.9, "Share of the steps in which the learning rate climbs."),
    _number("weight_decay", 0.0, 0, 1, "Pull of the weights towards zero."),
    _number("max_grad_norm", 1.0, 0, 1000, "Longest gradient; 0 turns clipping off."),
    _choice(
        "loss",
        ("cross_entropy", "label_smoothing", "focal", "dpo", "ipo", "hinge", "grpo"),
        AUTO,
        "What is minimised; auto is cross_entropy, dpo for preferences, grpo for reinforcement.",
    ),
    _number("label_smoothing", 0.1, 0, 0.9, "Weight of the uniform answer in the loss label_smoothing."),
    _number("focal_gamma", 2.0, 0, 10, "Focus on hard tokens in the loss focal."),
    Knob(name="class_weights", kind="numbers", default=None, help="A weight a label, for classification heads."),
    _integer("max_tokens_per_example", AUTO, 8, 131072, "Longest example; a longer one is refused by line."),
    _integer("max_completion_tokens", AUTO, 1, 131072, "Reinforcement: longest answer that is drawn; auto is 256."),
    _number("kl_weight", AUTO, 0, 10, "Reinforcement: the tie to the base model; auto is 0.04, for full weights 0."),
    _integer("tokens_per_pass", AUTO, 64, 1048576, "Most tokens computed at once; changes memory, no number."),
    _integer("checkpoint_interval_steps", 25, 1, 100000, "Steps between resumable checkpoints."),
    _integer("eval_interval_steps", 0, 0, 100000, "Steps between validations; 0 is once an epoch."),
    _integer("early_stopping_patience", 0, 0, 1000, "Epochs without a better validation loss before stopping; 0: off."),
    _integer("ranks", 1, 1, 64, "Processes that train as one, a GPU each; no number changes but in its last bits."),
    _choice("precision", ("auto", "bf16", "fp32"), AUTO, "Numbers the frozen base is computed in."),
)
"""Fields beside the standard ones, for what OpenAI's wire has no word for."""

KNOBS = {knob.name: knob for knob in HYPERPARAMETERS + EXTRAS}

_MAX_AUTO_BATCH = 32
_AUTO_COMPLETION_TOKENS = 256
_LOSSES = {"dpo": "dpo", "reinforcement": "grpo"}
_AUTO_STEPS = 120
"""With "auto" epochs, small data is repeated until about so many steps are made."""


def check(values: dict[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """The caller's values, each checked against the table; every knob left out gets its default.

    Raises:
        InvalidRequest: naming the knob, the value and what would be accepted.
    """
    checked = {name: knob.default for name, knob in KNOBS.items()}
    for name, value in values.items():
        if value is None:
            continue
        if name not in KNOBS:
            raise InvalidRequest(f"There is no setting {name!r}; there are: {', '.join(KNOBS)}.", param=prefix + name)
        checked[name] = _check_one(KNOBS[name], value, prefix + name)
    _check_together(checked)
    return checked


def resolve(
    options: dict[str, Any], *, method: str, num_examples: int, context_tokens: int, longest_example: int, task: str
) -> dict[str, Any]:
    """Every "auto" as a number, now that the data was counted.

    Args:
        options: what `check` returned.
        method: supervised, dpo or reinforcement.
        num_examples: rows that are trained on.
        context_tokens: the base model's context.
        longest_example: tokens of the longest row.
        task: what the rows are: chat, completion, classification …
    """
    options = {name: knob.default for name, knob in KNOBS.items()} | options
    batch = _auto(options["batch_size"], min(_MAX_AUTO_BATCH, max(4, round(num_examples / 100))))
    batch = max(1, min(256, num_examples, round(batch * options["batch_size_multiplier"])))
    steps_per_epoch = -(-num_examples // batch)
    limit = min(_auto(options["max_tokens_per_example"], context_tokens), context_tokens)
    completion = _auto(options["max_completion_tokens"], max(1, min(_AUTO_COMPLETION_TOKENS, limit - longest_example)))
    longest = longest_example + (completion if method == "reinforcement" else 0)
    return {
        **options,
        "batch_size": batch,
        "n_epochs": _auto(options["n_epochs"], max(1, min(10, max(3, _AUTO_STEPS // steps_per_epoch)))),
        "learning_rate_multiplier": _auto(options["learning_rate_multiplier"], 1.0),
        "beta": _auto(options["beta"], 0.1),
        "compute_multiplier": _auto(options["compute_multiplier"], 1.0),
        "eval_interval": _auto(
            options["eval_interval"], options["eval_interval_steps"] or min(steps_per_epoch, 100000)
        ),
        "eval_samples": _auto(options["eval_samples"], 1),
        "task": _auto(options["task"], task),
        "loss": _auto(options["loss"], _LOSSES.get(method, "cross_entropy")),
        "lora_alpha": _auto(options["lora_alpha"], 2.0 * options["lora_rank"]),
        "max_tokens_per_example": limit,
        "max_completion_tokens": completion,
        "kl_weight": _auto(options["kl_weight"], 0.0 if options["training_method"] == "full" else 0.04),
        "tokens_per_pass": _auto(options["tokens_per_pass"], max(4096, longest)),
    }


def _auto(value: Any, decided: Any) -> Any:
    return decided if value == AUTO else value


def _check_one(knob: Knob, value: Any, param: str) -> Any:
    if value == AUTO and knob.default == AUTO:
        return AUTO
    if knob.kind == "boolean":
        return _require(isinstance(value, bool), value, param, value, "true or false")
    if knob.kind == "choice":
        return _require(value in knob.choices, value, param, value, "one of " + ", ".join(knob.choices))
    if knob.kind == "strings":
        ok = isinstance(value, list) and bool(value) and all(isinstance(v, str) and v for v in value)
        return _require(ok, value, param, value, "a list of names")
    if knob.kind == "numbers":
        ok = isinstance(value, list) and bool(value) and all(_is_number(v) and v > 0 for v in value)
        return _require(ok, value, param, value, "a list of numbers above 0")
    return _check_number(knob, value, param)


def _check_number(knob: Knob, value: Any, param: str) -> float | int:
    assert knob.low is not None
    assert knob.high is not None
    whole = knob.kind == "integer"
    wanted = (
        f"{'a whole number' if whole else 'a number'} {'above' if knob.above_low else 'from'} {knob.low:,.9g} to "
        f"{knob.high:,.9g}" + (' or "auto"' if knob.default == AUTO else "")
    )
    # SDKs in other languages send 3.0 for 3.
    ok = _is_number(value) and (not whole or float(value).is_integer())
    _require(ok, value, param, value, wanted)
    number = int(value) if whole else float(value)
    inside = number <= knob.high and (number > knob.low if knob.above_low else number >= knob.low)
    checked: float | int = _require(inside, value, param, number, wanted)
    return checked


def _check_together(options: dict[str, Any]) -> None:
    if options["dora"] and options["training_method"] == "full":
        raise InvalidRequest("dora needs adapters: training_method 'full' has none.", param="dora")
    if options["class_weights"] and options["task"] not in (AUTO, "classification", "multi_label"):
        raise InvalidRequest(
            f"class_weights belong to classification, not to the task {options['task']!r}.", param="class_weights"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value  # noqa: PLR0124 (NaN)


def _require(ok: bool, value: Any, param: str, result: Any, wanted: str) -> Any:
    if ok:
        return result
    raise InvalidRequest(f"{param} is {value!r}; it must be {wanted}.", param=param)
