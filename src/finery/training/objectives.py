"""One pass → its loss as sums, by which a step adds up passes. It does not know steps, optimizers or files.

LanguageModelling   cross-entropy of the trained tokens, plain, smoothed or focal
Preferences         dpo (Rafailov et al. 2023, arXiv 2305.18290), ipo (Azar et al. 2023, arXiv 2310.12036),
                    hinge (Zhao et al. 2023, arXiv 2305.10425): preferred over other, relative to a reference
Policy              grpo: drawn answers become likelier by how much better than their group they are (see `policy`)
Heads               classification, multi-label, regression on the last token's hidden state
"""

# Names end in their shape. P: pairs, D: documents, L: labels, N: trained tokens, K: what is said of a document.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from finery.training.batches import passes
from finery.training.model import TrainableModel
from finery.training.packing import PackedPass, pack
from finery.training.policy import token_losses
from finery.training.spec import LossSpec, ReinforcementSpec, RunSpec
from finery.training.tasks import Attempt, Item, num_outputs


@dataclass(frozen=True, kw_only=True, slots=True)
class PassSums:
    """What a pass adds to its step."""

    loss_sum: Tensor
    """Differentiable scalar: the sum of weight · loss. Divided by the step's weight (`Item.weight`) it is the loss."""
    correct: Tensor
    """Scalar: how many of `counted` were right."""
    counted: int
    """Tokens, examples or pairs that can be right or wrong; 0 where there is no such thing."""
    said_DK: Tensor | None = None
    """Of a head, for each document: the right label's place, the said one's, and how sure it was; where there may be
    several labels, a 0 or 1 for each, then how likely it called each; the right value and the said one."""


class Objective(Protocol):
    """What is minimised."""

    accuracy: Literal["token", "example"]
    """What `PassSums.counted` counts."""

    def sums(self, items: Sequence[Item]) -> PassSums:
        """The forward pass of `items` as one packed row."""
        ...


def build(spec: RunSpec, model: TrainableModel) -> Objective:
    """The objective of a run; puts the head on the model where the task needs one."""
    if spec.objective == "preference":
        return Preferences(spec.loss, model)
    if spec.reinforcement is not None:
        return Policy(spec.reinforcement, model)
    outputs = num_outputs(spec)
    if outputs:
        model.add_head(outputs, spec.seed)
        return Heads(spec, model)
    return LanguageModelling(spec.loss, model)


class LanguageModelling:
    """Cross-entropy of the next token, over tokens with a weight."""

    accuracy: Literal["token", "example"] = "token"

    def __init__(self, spec: LossSpec, model: TrainableModel) -> None:
        self._model = model
        self._smoothing = spec.smoothing if spec.name == "label_smoothing" else 0.0
        self._gamma = spec.gamma if spec.name == "focal" else None

    def sums(self, items: Sequence[Item]) -> PassSums:
        """The forward pass of `items` as one packed row."""
        packed = _pack(self._model, items)
        trained_N = packed.trained_N
        sums = self._model.cross_entropy(
            self._model.hidden(packed)[trained_N],
            packed.targets_T[trained_N],
            packed.weights_T[trained_N],
            smoothing=self._smoothing,
            gamma=self._gamma,
        )
        return PassSums(loss_sum=sums.loss_sum, correct=sums.correct, counted=len(trained_N))


class Preferences:
    """The preferred answer shall gain on the other, measured from the reference model."""

    accuracy: Literal["token", "example"] = "example"

    def __init__(self, spec: LossSpec, model: TrainableModel) -> None:
        self._spec = spec
        self._model = model

    def sums(self, items: Sequence[Item]) -> PassSums:
        """The forward pass of `items` as one packed row. Every item knows its reference."""
        logprobs_P2 = self._logprobs(items)
        reference_P2 = torch.tensor([item.reference for item in items], device=logprobs_P2.device)
        gains_P2 = logprobs_P2 - reference_P2
        margin_P = gains_P2[:, 0] - gains_P2[:, 1]
        return PassSums(
            loss_sum=self._losses(margin_P).sum(), correct=(margin_P.detach() > 0).sum(), counted=len(items)
        )

    @torch.no_grad()
    def with_reference(
        self, items: Sequence[Item], *, tokens_per_pass: int, before_pass: Callable[[], None]
    ) -> list[Item]:
        """The items with the log-probabilities that the model, as it now is, gives their documents."""
        known: dict[int, tuple[float, ...]] = {}
        for part in passes(items, tokens_per_pass=tokens_per_pass):
            before_pass()
            for item, pair in zip(part, self._logprobs(part).tolist(), strict=True):
                known[id(item)] = tuple(pair)
        return [replace(item, reference=known[id(item)]) for item in items]

    def _losses(self, margin_P: Tensor) -> Tensor:
        beta = self._spec.beta
        if self._spec.name == "ipo":
            return (margin_P - 1 / (2 * beta)).square()
        if self._spec.name == "hinge":
            return F.relu(1 - beta * margin_P)
        return -F.logsigmoid(beta * margin_P)

    def _logprobs(self, items: Sequence[Item]) -> Tensor:
        """Of the documents' trained tokens: summed, or for ipo (so that length does not count) their mean. [P, 2]."""
        packed = _pack(self._model, items)
        trained_N = packed.trained_N
        logprobs_N = self._model.token_logprobs(self._model.hidden(packed)[trained_N], packed.targets_T[trained_N])
        counts = [sum(1 for w in document.weights[1:] if w) for item in items for document in item.documents]
        sums_D = torch.stack([part.sum() for part in torch.split(logprobs_N, counts)])
        if self._spec.name == "ipo":
            sums_D = sums_D / torch.tensor(counts, device=sums_D.device)
        return sums_D.view(len(items), 2)


class Policy:
    """Drawn answers, each token weighed by its answer's advantage."""

    accuracy: Literal["token", "example"] = "example"

    def __init__(self, spec: ReinforcementSpec, model: TrainableModel) -> None:
        self._spec = spec
        self._model = model

    def sums(self, items: Sequence[Item]) -> PassSums:
        """The forward pass of `items`, which are attempts, as one packed row."""
        attempts = [item for item in items if isinstance(item, Attempt)]
        assert len(attempts) == len(items)
        logprobs_N = self._logprobs(attempts)
        advantages = [item.advantage for item in attempts for _ in item.sampled]
        sampled = [logprob for item in attempts for logprob in item.sampled]
        reference = [logprob for item in attempts for logprob in item.reference]
        losses_N = token_losses(
            logprobs_N,
            torch.tensor(sampled, device=logprobs_N.device),
            torch.tensor(advantages, device=logprobs_N.device),
            torch.tensor(reference, device=logprobs_N.device) if reference else None,
            clip=self._spec.clip,
            kl_weight=self._spec.kl_weight,
        )
        return PassSums(loss_sum=losses_N.sum(), correct=torch.zeros((), device=losses_N.device), counted=0)

    @torch.no_grad()
    def with_reference(self, attempts: Sequence[Attempt], *, tokens_per_pass: int) -> list[Attempt]:
        """The attempts with the log-probabilities that the base model gives their tokens."""
        known: dict[int, tuple[float, ...]] = {}
        with self._model.without_adapter():
            for part in passes(attempts, tokens_per_pass=tokens_per_pass):
                counts = [len(attempt.sampled) for attempt in part]
                for attempt, logprobs in zip(part, torch.split(self._logprobs(part), counts), strict=True):
                    known[id(attempt)] = tuple(logprobs.tolist())
        return [replace(attempt, reference=known[id(attempt)]) for attempt in attempts]

    def _logprobs(self, attempts: Sequence[Attempt]) -> Tensor:
        packed = _pack(self._model, attempts)
        trained_N = packed.trained_N
        return self._model.token_logprobs(self._model.hidden(packed)[trained_N], packed.targets_T[trained_N])


class Heads:
    """A linear head says a label, labels or a value of a whole document."""

    accuracy: Literal["token", "example"] = "example"

    def __init__(self, spec: RunSpec, model: TrainableModel) -> None:
        self._spec = spec
        self._loss = spec.loss
        self._model = model
        weights = spec.loss.class_weights
        self._class_weights_L = None if weights is None else torch.tensor(weights, device=model.device)

    def sums(self, items: Sequence[Item]) -> PassSums:
        """The forward pass of `items` as one packed row."""
        packed = _pack(self._model, items)
        outputs_DL = self._model.head_outputs(self._model.hidden(packed), packed)
        targets_DL = torch.tensor([item.target for item in items], device=outputs_DL.device)
        if self._spec.task == "classification":
            return self._classification(outputs_DL, targets_DL[:, 0].long())
        if self._spec.task == "multi_label":
            return self._multi_label(outputs_DL, targets_DL)
        losses_D = (outputs_DL - targets_DL).square().mean(dim=1)
        said_DK = torch.cat([targets_DL, outputs_DL.detach()], dim=1)
        none = torch.zeros((), device=losses_D.device)
        return PassSums(loss_sum=losses_D.sum(), correct=none, counted=0, said_DK=said_DK)

    def _classification(self, outputs_DL: Tensor, labels_D: Tensor) -> PassSums:
        smoothing = self._loss.smoothing if self._loss.name == "label_smoothing" else 0.0
        losses_D = F.cross_entropy(outputs_DL, labels_D, reduction="none", label_smoothing=smoothing)
        if self._loss.name == "focal":
            losses_D = losses_D * (1 - torch.exp(-losses_D)) ** self._loss.gamma
        if self._class_weights_L is not None:
            losses_D = losses_D * self._class_weights_L[labels_D]
        sure_D, said_D = outputs_DL.detach().softmax(dim=1).max(dim=1)
        correct = (said_D == labels_D).sum()
        said_DK = torch.stack([labels_D.double(), said_D.double(), sure_D.double()], dim=1)
        return PassSums(loss_sum=losses_D.sum(), correct=correct, counted=len(labels_D), said_DK=said_DK)

    def _multi_label(self, outputs_DL: Tensor, targets_DL: Tensor) -> PassSums:
        wanted_DL = targets_DL
        if self._loss.name == "label_smoothing":
            wanted_DL = targets_DL * (1 - self._loss.smoothing) + self._loss.smoothing / 2
        losses_DL = F.binary_cross_entropy_with_logits(outputs_DL, wanted_DL, reduction="none")
        if self._loss.name == "focal":
            losses_DL = losses_DL * (1 - torch.exp(-losses_DL)) ** self._loss.gamma
        if self._class_weights_L is not None:
            losses_DL = losses_DL * self._class_weights_L
        right_DL = (outputs_DL.detach() > 0) == (targets_DL > 0.5)
        return PassSums(
            loss_sum=losses_DL.mean(dim=1).sum(),
            correct=right_DL.float().mean(dim=1).sum(),
            counted=len(targets_DL),
            said_DK=torch.cat([targets_DL, outputs_DL.detach().sigmoid()], dim=1),
        )


def _pack(model: TrainableModel, items: Sequence[Item]) -> PackedPass:
    documents = [document for item in items for document in item.documents]
    return pack(documents, model.device, share=model.shares_beginnings)
