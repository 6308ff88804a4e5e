"""One job from claim to end: its folder made ready, its trainer watched, what it makes published.

A trainer that is killed is started again and goes on from its checkpoint; one that gets nowhere is given up. Nothing
here is decided twice: what the control plane has recorded is told again without harm (events have keys, blobs are named
by their bytes).
"""

import contextvars
import errno
import logging
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finery import telemetry
from finery.core import tracing
from finery.core.errors import BlobsMissing, CorruptArtifact, Fenced, FineryError, Unavailable
from finery.core.tracing import Trace
from finery.modeling import manifests
from finery.modeling.sources import FACTS_FILE
from finery.training.spec import (
    CHECKPOINTS_FOLDER,
    EXIT_STOPPED,
    EXIT_STORAGE_FULL,
    TRAINER_MANIFEST_FILE,
    Event,
    RunSpec,
)
from finery.worker.client import WorkerClient
from finery.worker.trainer import Trainer

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
VANISH_SECONDS = 5.0
MAX_HAND_OVERS = 3
MAX_CRASHES = 3
"""Crashes in a row without a new checkpoint, after which a run is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to work on a job."""

    job_id: str
    epoch: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Gang:
    """The ranks of a run that are at several places, each with a folder of its own, and which one this is."""

    rank: int
    ranks: int
    meeting: tuple[str, int]
    """Address and port at which rank 0 waits for the others."""

    @property
    def environment(self) -> dict[str, str]:
        """What its trainer is told, in torchrun's words. Each place sees its own GPUs alone."""
        address, port = self.meeting
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(self.ranks),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
        }


class Run:
    """One claimed job on this machine."""

    def __init__(
        self,
        client: WorkerClient,
        claim: dict[str, Any],
        runs_folder: Path,
        models_folder: Path,
        stop: threading.Event,
        *,
        shares_checkpoints: bool,
        gang: Gang | None = None,
    ) -> None:
        self._client = client
        self._lease = Lease(job_id=claim["job_id"], epoch=claim["epoch"], seconds=claim["lease_seconds"])
        self._files: dict[str, str] = claim["files"]
        self._resume_point: dict[str, Any] | None = claim["resume_point"]
        self._asked_by = Trace.parse(claim.get("traceparent"))
        self._shares_checkpoints = shares_checkpoints
        spec = dict(claim["spec"])
        # Where base models lie is this machine's matter.
        spec["model_folder"] = str(models_folder / spec["base_model"])
        self._spec = RunSpec.from_json(spec)
        self._gang = gang
        name = self._lease.job_id + (f".rank-{gang.rank}" if gang and gang.rank else "")
        self._folder = runs_folder / name
        self._stop = stop
        self._pausing = threading.Event()
        self._lost = threading.Event()
        self._crashes = 0
        self.crashed = False
        """The trainer of one of several places died; all of them have to begin again together."""

    def execute(self) -> None:
        """Work until the job is over, paused, given back, or no longer ours."""
        facts: telemetry.Facts = {"finery.job_id": self._lease.job_id, "finery.epoch": self._lease.epoch}
        with (
            tracing.within(None, job_id=self._lease.job_id),
            telemetry.span("run job", parent=self._asked_by, kind="consumer", facts=facts),
        ):
            self._execute()

    def _execute(self) -> None:
        beats = threading.Thread(target=contextvars.copy_context().run, args=(self._keep_lease,), daemon=True)
        done = threading.Event()
        self._done = done
        beats.start()
        try:
            self._prepare()
            while self._train_once():
                pass
        except Fenced:
            log.info("job %s is no longer ours", self._lease.job_id)
        except CorruptArtifact as error:
            self._tell("failed", code=error.code, message=error.message)
        except OSError as error:
            # A full disk, most likely: the job waits, its checkpoints stay, and it goes on once there is space.
            log.exception("job %s", self._lease.job_id)
            self._tell("give-back")
            raise Unavailable(
                f"The worker can't write its run folder: {error.strerror}.", code="storage_full"
            ) from error
        finally:
            done.set()
            beats.join()

    def _prepare(self) -> None:
        with telemetry.span("prepare"):
            self._make_ready()

    def _make_ready(self) -> None:
        if self._gang:
            # All go on from the checkpoint that all can have.
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, sha256 in self._files.items():
            path = self._folder / name
            if path.exists() and manifests.sha256_of(path) == sha256:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(sha256, path)
        if self._resume_point is not None:
            self._fetch_checkpoint(self._resume_point["step"], self._resume_point["files"])
        self._spec.write(self._folder)

    def _fetch(self, sha256: str, path: Path) -> None:
        self._client.download(self._lease.job_id, self._lease.epoch, sha256, path)
        if manifests.sha256_of(path) != sha256:
            raise CorruptArtifact(f"{path.name} of job {self._lease.job_id} arrived damaged.")

    def _fetch_checkpoint(self, step: int, files: dict[str, str]) -> None:
        """Put another worker's checkpoint where the trainer looks for its own, unless it has come as far here."""
        folder = self._folder / CHECKPOINTS_FOLDER
        name = f"step-{step:06d}"
        if any(own.parent.name >= name for own in folder.glob(f"step-*/{TRAINER_MANIFEST_FILE}")):
            return
        try:
            with manifests.fill(folder / name) as part:
                for file, sha256 in files.items():
                    self._fetch(sha256, part / file)
        except (Fenced, Unavailable):
            raise
        except FineryError as error:
            log.warning("checkpoint %s of %s can't be gone on from: %s", name, self._lease.job_id, error.message)

    def _train_once(self) -> bool:
        """One trainer from start to end; True if another one should follow."""
        with telemetry.span("trainer") as doing:
            trainer = self._start(doing.trace if telemetry.on() else None)
            try:
                result = self._watch(trainer)
            finally:
                trainer.kill()
                trainer.close()
                doing.facts["finery.exit_status"] = trainer.ended() or 0
                telemetry.tell("trainer", trainer.spans())
        return self._conclude(trainer, result)

    def _start(self, trace: Trace | None = None) -> Trainer:
        return Trainer(self._folder, trace, self._gang.environment if self._gang else None)

    def follow(self) -> None:
        """Train along as a further rank, until rank 0 has ended: it has the lease, tells and uploads."""
        try:
            self._make_ready()
            trainer = self._start()
            try:
                while trainer.ended() is None:
                    time.sleep(POLL_SECONDS)
                self.crashed = trainer.ended() not in (0, EXIT_STOPPED)
                if self.crashed:
                    log.warning("rank %s of %s: %s", self._gang, self._lease.job_id, trainer.last_words())
            finally:
                trainer.kill()
                trainer.close()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self, trainer: Trainer) -> list[Event]:
        """Pass events on until the trainer ends; returns those that say how it ended."""
        closing: list[Event] = []
        asked = False
        while True:
            ended = trainer.ended()
            events = trainer.events()
            closing += [event for event in events if event.type in ("result", "error")]
            self._pass_on([event for event in events if event.type not in ("result", "error")])
            if ended is not None:
                return closing
            if self._lost.is_set():
                raise Fenced("The lease was lost.")
            if not asked and (self._stop.is_set() or self._pausing.is_set()):
                trainer.stop_at_checkpoint()
                asked = True
            time.sleep(POLL_SECONDS)

    def _pass_on(self, events: list[Event]) -> None:
        if not events:
            return
        for event in events:
            if event.type == "message":
                log.info("trainer: %s", event.message)
            if event.type == "checkpoint" and event.data.get("deployable"):
                self._publish_checkpoint(event)
        told = [_as_json(event) for event in events if event.type != "checkpoint"]
        if told:
            self._tell("events", events=told)
        checkpoints = [event for event in events if event.type == "checkpoint"]
        if checkpoints:
            self._crashes = 0
            if self._shares_checkpoints:
                # Only now: whoever goes on from it does not tell again what came before.
                self._share_checkpoint(checkpoints[-1])

    def _conclude(self, trainer: Trainer, closing: list[Event]) -> bool:
        last = closing[-1] if closing else None
        if last is not None and last.type == "result":
            facts = {"trained_tokens": last.data["trained_tokens"], "step": last.data["steps"]}
            self._hand_over(self._folder / last.data["folder"], "succeeded", **facts)
            shutil.rmtree(self._folder, ignore_errors=True)
            return False
        if last is not None:
            self._tell("failed", code=str(last.data.get("code", "training_failed")), message=last.message)
            return False
        if trainer.ended() == EXIT_STORAGE_FULL:
            raise OSError(errno.ENOSPC, "No space left on device")
        if trainer.stopped_as_asked:
            self._tell("give-back")
            return False
        return self._after_crash(trainer)

    def _after_crash(self, trainer: Trainer) -> bool:
        self._crashes += 1
        status = trainer.ended()
        log.warning("the trainer of %s ended with %s:\n%s", self._lease.job_id, status, trainer.last_words())
        if self._gang:
            self.crashed = True
            text = f"One of {self._gang.ranks} ranks was lost ({_cause(status)}); all go on from the last checkpoint"
            self._pass_on([_warning(f"lost:{self._lease.epoch}", text)])
            self._tell("give-back")
            return False
        if self._crashes < MAX_CRASHES:
            text = f"The trainer died ({_cause(status)}); it is started again and goes on from its last checkpoint"
            key = f"crash:{self._lease.epoch}:{self._crashes}:{time.time_ns()}"
            self._tell("events", events=[_as_json(_warning(key, text))])
            return True
        self._tell(
            "failed",
            code="trainer_crashed",
            message=f"The trainer died {self._crashes} times without reaching a new checkpoint ({_cause(status)}). "
            "Too little memory is the usual reason: try a smaller batch_size or max_tokens_per_example. "
            f"The worker's log of the run is {self._folder.name}/trainer.log.",
        )
        return False

    def _publish_checkpoint(self, event: Event) -> None:
        folder = self._folder / event.data["folder"]
        try:
            self._hand_over(folder, "checkpoints", step=event.data["step"], metrics=event.data["metrics"])
        except (CorruptArtifact, FileNotFoundError):
            # The trainer keeps the last ones only. One of an earlier life, told again, was registered then.
            if not _vanishes(folder):
                raise
            log.info("checkpoint %s of %s is gone already", folder.name, self._lease.job_id)

    def _hand_over(self, folder: Path, what: str, **facts: Any) -> None:
        """Send a folder's files and say what they are; again where the same bytes were just being removed there."""
        for _ in range(MAX_HAND_OVERS - 1):
            try:
                self._tell(what, artifact=self._upload_folder(folder), **facts)
                return
            except BlobsMissing as error:
                log.warning("%s", error.message)
        self._tell(what, artifact=self._upload_folder(folder), **facts)

    def _share_checkpoint(self, event: Event) -> None:
        """Let the control plane have all that another worker needs to go on from here."""
        folder = self._folder / event.data["folder"]
        with tempfile.TemporaryDirectory(prefix=".shared-", dir=self._folder) as scratch:
            # The trainer goes on and keeps the last ones only: what is linked stays until it is sent.
            held = Path(scratch)
            try:
                for path in folder.iterdir():
                    _hold(path, held / path.name)
                manifest = manifests.check_sizes(held, name=TRAINER_MANIFEST_FILE)
            except (CorruptArtifact, FileNotFoundError):
                log.info("checkpoint %s of %s is gone already", folder.name, self._lease.job_id)
                return
            files = {name: fact.sha256 for name, fact in manifest.files.items()}
            files[TRAINER_MANIFEST_FILE] = manifests.sha256_of(held / TRAINER_MANIFEST_FILE)
            for name, sha256 in files.items():
                self._client.upload(self._lease.job_id, self._lease.epoch, sha256, held / name)
        with suppress(BlobsMissing):  # The next one will be there.
            self._tell("resume-point", step=event.data["step"], files=files)

    def _upload_folder(self, folder: Path) -> dict[str, Any]:
        """Send what makes the model: all files of a published folder but the trainer's own state."""
        manifest = manifests.verify(folder)
        files = {}
        for name in [*manifest.files, manifests.MANIFEST_FILE]:
            path = folder / name
            sha256 = manifests.sha256_of(path)
            self._client.upload(self._lease.job_id, self._lease.epoch, sha256, path)
            files[name] = {"sha256": sha256, "bytes": path.stat().st_size}
        base = manifests.read_manifest(Path(self._spec.model_folder), name=FACTS_FILE)
        return {
            "method": self._spec.method,
            "task": self._spec.task,
            "files": files,
            # What it was trained on, so that another template under the same name is found out.
            "base_files": {name: fact.sha256 for name, fact in base.files.items()},
        }

    def _tell(self, what: str, **body: Any) -> dict[str, Any]:
        return self._client.tell(self._lease.job_id, what, epoch=self._lease.epoch, **body)

    def _keep_lease(self) -> None:
        while not self._done.wait(min(self._lease.seconds / 4, 1.0)):
            try:
                if self._tell("heartbeat")["action"] == "pause":
                    self._pausing.set()
            except Fenced:
                self._lost.set()
                return
            except Exception:
                # The lease may still hold; the next call that matters finds out.
                log.exception("heartbeat of %s", self._lease.job_id)


def _hold(path: Path, held: Path) -> None:
    """The same file under another name; a copy where the file system has no hard links."""
    try:
        os.link(path, held)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, held)


def _vanishes(folder: Path) -> bool:
    """Whether a folder is gone, or is just being removed."""
    for _ in range(round(VANISH_SECONDS / POLL_SECONDS)):
        if not folder.exists():
            return True
        time.sleep(POLL_SECONDS)
    return False


def _as_json(event: Event) -> dict[str, Any]:
    return {
        "key": event.key,
        "type": event.type,
        "level": event.level,
        "message": event.message,
        "created_at": event.created_at,
        "data": event.data,
    }


def _warning(key: str, text: str) -> Event:
    return Event(key=key, type="message", level="warn", message=text, created_at=time.time())


def _cause(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
