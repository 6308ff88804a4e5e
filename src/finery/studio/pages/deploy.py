"""Deploy: a model gets a name under which it answers."""

from finery.studio import forms, parts
from finery.studio.pages import pricing
from finery.studio.pages.models import offered, older
from finery.studio.parts import box
from finery.studio.visit import Visit

_DRAFT = "deploy"


async def show(visit: Visit, model: str = "") -> None:
    """The form; `model` is what was chosen before."""
    visit.title(visit.t("Deploy"))
    found = (await visit.api.get("/v1/models"))["data"]
    draft = visit.draft(_DRAFT)
    if model:
        draft["model"] = model
    models = [each["id"] for each in offered(found, draft.get("model"))]
    if model and model not in models:
        models.append(model)  # A checkpoint: the list has only finished models.
    parts.link(visit.t("All deployments"), "/deployments", "back")
    parts.title(visit.t("Deploy"), visit.t("Your own programs reach the model under the deployment's name."))
    if not models:
        with parts.empty("apps", visit.t("No model to deploy yet"), visit.t("Fine-tune one first.")):
            parts.link_button(visit.t("Fine-tune a model"), "/fine-tune", primary=True)
        return
    with parts.card():
        with box("div", "fields"):
            forms.text_field(
                draft, "name", visit.t("Deployment name"), hint=visit.t("Letters, digits, dots and dashes; unique.")
            )
            options = {name: name for name in models}
            chosen = forms.choice_field(
                draft, "model", visit.t("Model"), options, default=models[0], hint=older(visit, found)
            )
            forms.number_field(
                draft,
                "capacity",
                visit.t("Capacity"),
                placeholder="1",
                hint=visit.t("Units of the Standard SKU."),
                step=1,
            )
            policies = await visit.api.find("/finery/v1/policies")
            if policies:
                named = {policy["name"]: policy["name"] for policy in policies["data"]}
                hint = visit.t("Empty: the default.")
                forms.choice_field(draft, "policy", visit.t("Content filter policy"), named, hint=hint)
        terms = box("div")

        async def draw_terms() -> None:
            terms.clear()
            with terms:
                await pricing.draw(visit, draft["model"])

        chosen.on_value_change(visit.guard(draw_terms))
        await draw_terms()
        said = box("div")

        async def submit() -> None:
            said.clear()
            if not (draft.get("name") or "").strip():
                with said:
                    forms.fault(visit.t("Give the deployment a name."))
                return
            await visit.api.post(
                "/finery/v1/deployments",
                {
                    "name": draft["name"].strip(),
                    "model": draft["model"],
                    "policy": draft.get("policy"),
                    "sku": {"name": "Standard", "capacity": int(draft.get("capacity") or 1)},
                },
            )
            name = draft["name"].strip()
            visit.forget(_DRAFT)
            visit.go(f"/deployments/{name}")

        with box("div", "actions actions--form"):
            parts.button(visit.t("Deploy"), visit.guard(submit), look="primary").mark("submit")
