"""The model catalog: search and cards, and the page of one base model."""

from nicegui import ui
from nicegui.element import Element

from finery.sdk.wire import Json
from finery.studio import parts
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

TASK_NAMES = {
    "chat": "Chat completion",
    "completion": "Completion",
    "classification": "Classification",
    "multi_label": "Multi-label classification",
    "regression": "Regression",
}

CHOICE_NAMES = {
    **TASK_NAMES,
    "lora": "LoRA",
    "qlora": "QLoRA",
    "full": "All weights",
    "adamw": "AdamW",
    "adam": "Adam",
    "sgd": "SGD",
    "cross_entropy": "Cross-entropy",
}
"""Choices on the wire whose words differ; others are shown as they are."""


async def show(visit: Visit, q: str = "") -> None:
    """Every base model, found by what is typed."""
    visit.title(visit.t("Model catalog"))
    models = (await visit.api.get("/finery/v1/models"))["data"]
    parts.title(visit.t("Model catalog"), visit.t("Open models that can be fine-tuned. Choose one to begin."))
    search = ui.input(visit.t("Search"), placeholder="phi-3", value=q).props("outlined clearable type=search autofocus")
    search.classes("search")
    with box("div", "cards", role="list"):
        cards = [(_haystack(model), _card(visit, model)) for model in models]
    with parts.empty(
        "search_off", visit.t("No model of that name"), visit.t("Search for a family, a licence or a task instead.")
    ) as _:
        parts.button(visit.t("Show all models"), lambda: search.set_value(""))
    nothing = ui.context.slot.children[-1]
    nothing.visible = False

    def narrow() -> None:
        words = (search.value or "").lower().split()
        found = 0
        for haystack, card in cards:
            card.visible = all(word in haystack for word in words)
            found += card.visible
        nothing.visible = not found

    search.on_value_change(narrow)
    narrow()


async def show_model(visit: Visit, model_id: str) -> None:
    """One base model."""
    model = await visit.api.get(f"/finery/v1/models/{part(model_id)}")
    visit.title(model["name"])
    with parts.heading(model["name"], visit.t(model["description"]) if model["description"] else ""):
        if model["here"]:
            parts.link_button(visit.t("Try it"), f"/playground?model={model['id']}", icon="forum")
            parts.link_button(
                visit.t("Fine-tune"), f"/fine-tune?model={model['id']}", icon="model_training", primary=True
            )
    if not model["here"]:
        with parts.callout(
            "note", visit.t("This model is not on this machine yet. Whoever runs the server brings it there with:")
        ):
            parts.code(visit, f"finery models pull {model['id']}", name=visit.t("Command"))
    with parts.card(visit.t("Facts")):
        parts.facts(_facts(visit, model))


def _facts(visit: Visit, model: Json) -> list[tuple[str, parts.Cell]]:
    where = visit.t("On this machine") if model["here"] else visit.t("After it was pulled")
    rate = model["learning_rate"]
    return [
        (visit.t("Name in requests"), model["id"]),
        (visit.t("Family"), model["family"]),
        (visit.t("Parameters"), parts.amount(model["parameters"])),
        (visit.t("Context"), visit.t("{n} tokens", n=f"{model['context_tokens']:,}")),
        (visit.t("Licence"), lambda: parts.licence(model)),
        (visit.t("Can be tuned for"), ", ".join(visit.t(TASK_NAMES[task]) for task in model["tasks"])),
        (visit.t("Can be tuned where"), where),
        (visit.t("Learning rate"), f"{rate:g}" if rate else visit.t("the trainer's own")),
        (visit.t("Source"), model["source"]),
    ]


def _haystack(model: Json) -> str:
    texts = [model["id"], model["name"], model["family"], model["licence"], model["description"], *model["tasks"]]
    return " ".join(texts).lower()


def _card(visit: Visit, model: Json) -> Element:
    with box("article", "card card--model", role="listitem") as card:
        with box("h2"):
            parts.link(model["name"], f"/catalog/{model['id']}", "card__link")
        Text("p", visit.t(model["description"]) if model["description"] else visit.t("Imported from a folder."))
        with box("div", "chips"):
            parts.chip(visit.t("{n} parameters", n=parts.amount(model["parameters"])))
            parts.chip(visit.t("{n} tokens of context", n=f"{model['context_tokens']:,}"))
            parts.chip(model["licence"])
        with box("div", "card__foot"):
            if model["here"]:
                Text("span", visit.t("Can be tuned here"), "where where--here")
                parts.link_button(visit.t("Fine-tune"), f"/fine-tune?model={model['id']}")
            else:
                Text("span", visit.t("Not on this machine yet"), "where")
    return card
