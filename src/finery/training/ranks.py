"""Several processes that train as one: gradients and figures are summed, rank 0 writes. It does not know models.

One process is rank 0 of 1, and everything here is then free. Several know of each other by the environment: RANK,
LOCAL_RANK, WORLD_SIZE and either FINERY_RENDEZVOUS, the place of a file (on one machine), or MASTER_ADDR and
MASTER_PORT (on several, as torchrun sets them). They speak gloo on CPUs and NCCL on GPUs.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from finery.core.errors import FineryError

_BUCKET_NUMBERS = 1 << 24


class RankLost(FineryError):
    """Another rank doesn't answer any more."""

    code = "rank_lost"


class Ranks:
    """This process among those that train together."""

    def __init__(self, number: int, count: int, device: torch.device) -> None:
        self.number = number
        self.count = count
        self._device = device

    @property
    def writes(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.number == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over all ranks."""
        if self.count == 1:
            return
        bucket: list[Tensor] = []
        for tensor in tensors:
            bucket.append(tensor)
            if sum(part.numel() for part in bucket) >= _BUCKET_NUMBERS:
                self._add_up_bucket(bucket)
                bucket = []
        if bucket:
            self._add_up_bucket(bucket)

    def totals(self, figures: Sequence[float]) -> list[float]:
        """The sum over all ranks of each figure."""
        if self.count == 1:
            return list(figures)
        summed = torch.tensor(figures, dtype=torch.float64, device=self._device)
        with _together():
            torch.distributed.all_reduce(summed)
        return [float(figure) for figure in summed.tolist()]

    def wait(self) -> None:
        """Return when every rank is here."""
        if self.count > 1:
            with _together():
                torch.distributed.barrier()

    def leave(self) -> None:
        """Say goodbye, once all is done."""
        if self.count > 1:
            torch.distributed.destroy_process_group()

    def _add_up_bucket(self, bucket: list[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        with _together():
            torch.distributed.all_reduce(flat)
        for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(part.view_as(tensor))


def count() -> int:
    """How many ranks the environment tells of."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_device() -> torch.device:
    """The device of this rank: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def join(device: torch.device) -> Ranks:
    """Meet the other ranks that the environment tells of; alone without them."""
    number = int(os.environ.get("RANK", "0"))
    if count() > 1:
        place = os.environ.get("FINERY_RENDEZVOUS")
        with _together():
            torch.distributed.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                init_method=f"file://{place}" if place else "env://",
                rank=number,
                world_size=count(),
            )
    return Ranks(number, count(), device)


@contextmanager
def _together() -> Iterator[None]:
    """What all ranks do at once."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(f"Another rank doesn't answer any more: {error}") from error
