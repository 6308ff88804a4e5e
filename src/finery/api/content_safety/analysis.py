"""text:analyze, text:shieldPrompt and text:detectProtectedMaterial of Azure AI Content Safety."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from finery.api.access import AsksModels
from finery.api.context import Plane
from finery.control import blocklists, screening, works
from finery.core.errors import InvalidRequest

router = APIRouter(prefix="/contentsafety", tags=["content safety"])

MAX_CHARACTERS = 10_000
MAX_DOCUMENTS = 5
PROTECTED_MATERIAL_CHARACTERS = (110, 1000)
"""Fewest and most that are looked through for protected works."""

Category = Literal["Hate", "SelfHarm", "Sexual", "Violence"]
CATEGORIES: dict[Category, str] = {"Hate": "hate", "SelfHarm": "self_harm", "Sexual": "sexual", "Violence": "violence"}
"""Azure's names and ours."""


class AnalyzeText(BaseModel):
    """The body of text:analyze."""

    model_config = ConfigDict(extra="ignore")
    text: str
    categories: list[Category] | None = None
    blocklistNames: Annotated[list[str], Field(max_length=20)] | None = None
    haltOnBlocklistHit: bool | None = False
    outputType: Literal["FourSeverityLevels", "EightSeverityLevels"] | None = "FourSeverityLevels"


class ShieldPrompt(BaseModel):
    """The body of text:shieldPrompt."""

    model_config = ConfigDict(extra="ignore")
    userPrompt: str | None = None
    documents: Annotated[list[str], Field(max_length=MAX_DOCUMENTS)] | None = None


class DetectProtectedMaterial(BaseModel):
    """The body of text:detectProtectedMaterial."""

    model_config = ConfigDict(extra="ignore")
    text: str


@router.post("/text:analyze")
async def analyze(plane: Plane, caller: AsksModels, body: AnalyzeText) -> dict[str, Any]:
    """Harms in a text, with their severities, and what of it is on blocklists."""
    _check_length(len(body.text), "text")
    matches = []
    for name in body.blocklistNames or ():
        matcher = await run_in_threadpool(blocklists.matcher, plane, caller, name)
        matches += [
            {"blocklistName": name, "blocklistItemId": item.id, "blocklistItemText": item.text}
            for item in matcher.find(body.text)
        ]
    if matches and body.haltOnBlocklistHit:
        return {"blocklistsMatch": matches, "categoriesAnalysis": []}
    (verdict,) = await screening.examine(plane, caller, [body.text])
    step = 1 if body.outputType == "EightSeverityLevels" else 2
    analysis = [
        {"category": name, "severity": verdict.severities[CATEGORIES[name]] // step * step}
        for name in body.categories or CATEGORIES
    ]
    return {"blocklistsMatch": matches, "categoriesAnalysis": analysis}


@router.post("/text:shieldPrompt")
async def shield_prompt(plane: Plane, caller: AsksModels, body: ShieldPrompt) -> dict[str, Any]:
    """Attacks in a user's prompt and in documents."""
    documents = body.documents or []
    if body.userPrompt is None and not documents:
        raise InvalidRequest("There is neither a userPrompt nor documents.", param="userPrompt")
    _check_length(len(body.userPrompt or ""), "userPrompt")
    _check_length(sum(map(len, documents)), "documents")
    prompt, *others = await screening.examine(plane, caller, [body.userPrompt or "", *documents])
    return {
        "userPromptAnalysis": {"attackDetected": "jailbreak" in prompt.detected},
        "documentsAnalysis": [
            {"attackDetected": bool(other.detected & {"indirect_attack", "jailbreak"})} for other in others
        ],
    }


@router.post("/text:detectProtectedMaterial")
def detect_protected_material(plane: Plane, caller: AsksModels, body: DetectProtectedMaterial) -> dict[str, Any]:
    """Whether a text repeats a protected work of the project."""
    fewest, most = PROTECTED_MATERIAL_CHARACTERS
    if not fewest <= len(body.text) <= most:
        raise InvalidRequest(
            f"text has {len(body.text):,} characters; from {fewest} to {most:,} are looked at in one call.",
            code="InvalidRequestBody",
            param="text",
        )
    return {"protectedMaterialAnalysis": {"detected": works.runs(plane, caller).occur_in(body.text)}}


def _check_length(characters: int, param: str) -> None:
    if characters > MAX_CHARACTERS:
        raise InvalidRequest(
            f"{param} has {characters:,} characters; at most {MAX_CHARACTERS:,} are looked at in one call.",
            code="InvalidRequestBody",
            param=param,
        )
