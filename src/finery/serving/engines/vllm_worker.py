"""What of Finery runs inside vLLM's own worker process: penalties as all engines count them, and a lifeline.

vLLM loads both by their names (`PENALTIES`, `EXTENSION`). It knows no HTTP and no adapters.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from finery.serving.lifeline import die_with_process

PENALTIES = "finery.serving.engines.vllm_worker:Penalties"
EXTENSION = "finery.serving.engines.vllm_worker.Lifeline"
PENALTIES_KEY = "finery_penalties"
"""Of a request's extra arguments: [frequency, presence]."""


class Lifeline:
    """Mixed into vLLM's worker; its methods are called by name."""

    def end_with_finery(self, pid: int) -> None:
        """End when the inference server does, also when that is killed: vLLM's processes would keep their memory."""
        die_with_process(pid)


@dataclass(kw_only=True, slots=True)
class _Row:
    """A request that has penalties."""

    frequency: float
    presence: float
    prompt: list[int]
    said: list[int]
    """vLLM's own list, which grows as it answers."""
    counts: Tensor | None = field(default=None)
    """Of the prompt's tokens [vocabulary]."""

    def penalise(self, logits: Tensor) -> None:
        """Logits [vocabulary], changed in place."""
        if self.counts is None:
            self.counts = _count(self.prompt, logits)
        # A token that is still being computed stands there as -1.
        counts = self.counts + _count([token for token in self.said if token >= 0], logits)
        logits -= self.frequency * counts + self.presence * (counts > 0)


class Penalties(LogitsProcessor):  # type: ignore[misc]
    """Frequency and presence penalties over prompt and answer; vLLM's own count the answer alone."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: Tensor) -> Tensor:
        for place, row in self._rows.items():
            row.penalise(logits[place])
        return logits


def _row(params: SamplingParams, prompt: list[int] | None, said: list[int]) -> _Row | None:
    penalties = (params.extra_args or {}).get(PENALTIES_KEY)
    if penalties is None:
        return None
    frequency, presence = penalties
    return _Row(frequency=frequency, presence=presence, prompt=prompt or [], said=said)


def _count(tokens: list[int], logits: Tensor) -> Tensor:
    ids = torch.tensor(tokens, dtype=torch.int64, device=logits.device)
    return torch.bincount(ids, minlength=logits.shape[-1]).to(logits.dtype)
