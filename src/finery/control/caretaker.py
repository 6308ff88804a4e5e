"""What has to happen without anybody asking: pending checks, validations and deployments, idle servers.

Everything here starts from rows, so a restart loses nothing: what was pending is found again. Of several control planes
on one database one has the care for what is pending; each looks after its own inference servers and its own counts.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from finery.control import (
    backgrounds,
    batches,
    budgets,
    capture,
    compaction,
    containers,
    costs,
    deployments,
    eval_runs,
    evaluations,
    exports,
    files,
    metrics,
    naming,
    promotions,
    proofs,
    replays,
    responses,
    resume_points,
    sweeps,
    trackers,
    uploads,
    validation,
    webhooks,
)
from finery.control.asking import Ask
from finery.control.plane import ControlPlane
from finery.core.deployments import Deployment
from finery.core.errors import FineryError, Unavailable
from finery.storage.care import Care

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.25
QUIET_SECONDS = 2.0
"""At most so long nobody looks for what is pending, where nothing changed."""


async def run(plane: ControlPlane, ask: Ask) -> None:
    """Look after the control plane until cancelled; `ask` answers a line of a batch or a question of an evaluation."""
    await asyncio.gather(
        _load_captures(plane),
        _again_and_again(lambda: _stop_idle(plane)),
        _again_and_again(lambda: _save_traffic(plane)),
        _take_care(plane, lambda: _look_after_all(plane, ask)),
    )


async def _take_care(plane: ControlPlane, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work while the care is ours; drop it in the middle when it no longer is, as if we had been killed."""
    care = Care(plane.database)
    try:
        while True:
            if await asyncio.to_thread(care.take):
                log.info("this control plane looks after what is pending")
                task = asyncio.ensure_future(work())
                try:
                    while not task.done() and await asyncio.to_thread(care.held):
                        await asyncio.wait([task], timeout=PAUSE_SECONDS * 4)
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                log.warning("the database let go of us; another control plane may look after what is pending")
            await asyncio.sleep(PAUSE_SECONDS * 4)
    finally:
        care.drop()


async def _load_captures(plane: ControlPlane) -> None:
    """Which deployments' conversations are kept; looked up again where another control plane may have been told."""
    await asyncio.to_thread(capture.load, plane)
    while plane.database.is_shared:
        await asyncio.sleep(PAUSE_SECONDS * 40)
        try:
            await asyncio.to_thread(capture.load, plane)
        except FineryError as error:
            log.warning("captures: %s", error.message)


async def _look_after_all(plane: ControlPlane, ask: Ask) -> None:
    await asyncio.gather(
        _whenever_changed(plane, lambda: asyncio.to_thread(files.check_pending, plane)),
        _whenever_changed(plane, lambda: asyncio.to_thread(validation.validate_pending, plane)),
        _prove_deployments(plane),
        _whenever_changed(plane, lambda: asyncio.to_thread(deployments.finish_deleting, plane)),
        _again_and_again(lambda: _forget_expired(plane)),
        _again_and_again(lambda: _look_after_money(plane)),
        _whenever_changed(plane, lambda: batches.run_pending(plane, ask)),
        _whenever_changed(plane, lambda: backgrounds.run_pending(plane, ask)),
        _whenever_changed(plane, lambda: exports.run_pending(plane)),
        _whenever_changed(plane, lambda: evaluations.run_pending(plane, ask)),
        _whenever_changed(plane, lambda: eval_runs.run_pending(plane, ask)),
        _whenever_changed(plane, lambda: asyncio.to_thread(promotions.decide_pending, plane)),
        _whenever_changed(plane, lambda: asyncio.to_thread(sweeps.advance, plane)),
        _whenever_changed(plane, lambda: webhooks.deliver_pending(plane)),
        _whenever_changed(plane, lambda: trackers.send_pending(plane)),
    )


async def _prove_deployments(plane: ControlPlane) -> None:
    """Prove what is created or changed, for ever; a slow proof holds up no other."""
    proving: set[str] = set()

    async def prove(deployment: Deployment) -> None:
        try:
            await proofs.prove(plane, deployment)
        finally:
            proving.discard(deployment.revision)

    async def begin() -> None:
        for deployment in await asyncio.to_thread(deployments.list_unproven, plane):
            if deployment.revision not in proving:
                proving.add(deployment.revision)
                tasks.create_task(prove(deployment))

    async with asyncio.TaskGroup() as tasks:
        await _whenever_changed(plane, begin)


async def _stop_idle(plane: ControlPlane) -> None:
    await plane.inference.stop_idle(await asyncio.to_thread(deployments.needs, plane))
    await asyncio.sleep(PAUSE_SECONDS * 4)


async def _forget_expired(plane: ControlPlane) -> None:
    for forget in (
        files.delete_expired,
        uploads.expire,
        containers.expire,
        replays.forget_expired,
        responses.forget_expired,
        compaction.forget_expired,
        metrics.forget_old,
        exports.forget_expired,
        capture.forget_expired,
        resume_points.forget_over,
        naming.drop_left,
    ):
        await asyncio.to_thread(forget, plane)
    await asyncio.sleep(PAUSE_SECONDS * 20)


async def _save_traffic(plane: ControlPlane) -> None:
    await asyncio.to_thread(metrics.save, plane)
    await asyncio.to_thread(capture.save, plane)
    await asyncio.sleep(PAUSE_SECONDS * 20)


async def _look_after_money(plane: ControlPlane) -> None:
    await asyncio.to_thread(costs.charge_all_hosting, plane)
    await asyncio.to_thread(budgets.enforce_all, plane)
    await asyncio.sleep(PAUSE_SECONDS * 40)


async def _whenever_changed(plane: ControlPlane, act: Callable[[], Awaitable[None]]) -> None:
    """Again and again; on a database of our own only when it changed, or when something may have fallen due."""
    database = plane.database

    async def act_and_wait() -> None:
        seen = database.changes
        await act()
        end = time.monotonic() + QUIET_SECONDS
        while database.changes == seen and not database.is_shared and time.monotonic() < end:
            await asyncio.sleep(PAUSE_SECONDS)

    await _again_and_again(act_and_wait)


async def _again_and_again(act: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await act()
        except Unavailable as error:
            log.warning("%s", error.message)
            await asyncio.sleep(PAUSE_SECONDS * 4)
        except Exception:
            # One bad row must not stop the care for all others.
            log.exception("caretaker")
        await asyncio.sleep(PAUSE_SECONDS)
