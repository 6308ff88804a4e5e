"""What every decision is given. Knows no request and starts nothing."""

import time
from dataclasses import dataclass, field

from finery.control.admission import Admission
from finery.control.inference import InferencePool
from finery.control.issuer import Issuer
from finery.control.traffic import Traffic
from finery.safety.filter import Filter
from finery.settings import Settings
from finery.storage.blobs import BlobStore
from finery.storage.database import Database


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlPlane:
    """The parts of one running control plane."""

    settings: Settings
    database: Database
    blobs: BlobStore
    inference: InferencePool
    admission: Admission
    filter: Filter
    """Tells what is in a text; started when first asked."""
    worker_digest: str
    """SHA-256 of the secret that workers show."""
    traffic: Traffic = field(default_factory=Traffic)
    issuer: Issuer | None = None
    """Whose tokens are taken beside keys; None: nobody's."""


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
