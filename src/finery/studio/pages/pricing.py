"""*Pricing and terms*, a part of the wizards: what a model costs, and the licence it stands under. Prices are the
server's own table; it knows none itself."""

import asyncio
from typing import Any

from finery.sdk.wire import ApiError, Json
from finery.studio import parts
from finery.studio.client import part
from finery.studio.parts import Text
from finery.studio.visit import Visit

_PER_MILLION = ("training", "input", "output")


async def draw(visit: Visit, model: str, *, job: Json | None = None) -> None:
    """Prices and licence of a model, base or tuned; with what `job` would cost (model, file and knobs), if given."""
    base = await _base_of(visit, model)
    prices, known, cost = await asyncio.gather(
        visit.api.find("/finery/v1/prices"),
        visit.api.find(f"/finery/v1/models/{part(base)}"),
        _cost_of(visit, job),
    )
    Text("h3", visit.t("Pricing and terms"))
    price = _price_of(prices, base)
    pairs: list[tuple[str, parts.Cell]] = []
    if price is None or not any(price[meter] for meter in (*_PER_MILLION, "hosting")):
        pairs.append((visit.t("Price"), visit.t("nothing: no price is set")))
    else:
        if cost is not None:
            about = visit.t("about {amount}", amount=money(cost["amount"], cost["currency"]))
            pairs.append((visit.t("This job"), about))
        names = {"training": "Training", "input": "Prompt tokens", "output": "Answer tokens"}
        pairs += [
            (visit.t(names[meter]), visit.t("{price} per million tokens", price=f"{price[meter]:g}"))
            for meter in _PER_MILLION
        ]
        pairs.append((visit.t("Hosting"), visit.t("{price} per hour", price=f"{price['hosting']:g}")))
    if known is not None:
        pairs.append((visit.t("Licence"), lambda: parts.licence(known)))
    parts.facts(pairs)


def money(amount: float, currency: str) -> str:
    """An amount as people read it."""
    return f"< 0.01 {currency}" if 0 < amount < 0.01 else f"{amount:,.2f} {currency}"


async def _base_of(visit: Visit, model: str) -> str:
    if not model.startswith("ft:"):
        return model
    found: dict[str, Any] | None = await visit.api.find(f"/v1/models/{part(model)}")
    return str(found["parent"]) if found else model


async def _cost_of(visit: Visit, job: Json | None) -> Json | None:
    """None where it isn't asked for, may not be seen or can't be counted: the estimate beside it says why."""
    if job is None:
        return None
    try:
        return await visit.api.post("/finery/v1/costs/estimate", job)
    except ApiError:
        return None


def _price_of(prices: Json | None, base: str) -> Json | None:
    rows: list[Json] = prices["data"] if prices else []
    own = [row for row in rows if row["model"] == base]
    return next(iter(own + [row for row in rows if row["default"]]), None)
