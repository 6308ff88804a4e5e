"""The engine on an accelerator: the same losses as on the CPU, and runs that repeat themselves.

Needs a GPU: `pytest -m gpu tests/gpu`.
"""

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from finery.training.model import TrainableModel
from finery.training.packing import pack
from finery.training.spec import LoraSpec, RunSpec
from tiny_models import write_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
FAMILIES = ("llama", "phi3", "qwen2")


@dataclasses.dataclass(frozen=True)
class Row:
    """One example."""

    tokens: list[int]
    weights: list[float]


def rows(count: int) -> list[Row]:
    draw = random.Random(1)
    made = []
    for _ in range(count):
        length = draw.randrange(3, 60)
        made.append(
            Row([draw.randrange(3, 300) for _ in range(length)], [float(p > length // 2) for p in range(length)])
        )
    return made


def losses(
    model_folder: Path, device: str, *, steps: int = 6, precision: str = "fp32", method: str = "lora"
) -> list[float]:
    torch.manual_seed(0)
    spec = RunSpec(
        job_id="gpu",
        base_model="tiny",
        model_folder=str(model_folder),
        training_file="",
        precision=precision,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        lora=LoraSpec(rank=4, alpha=8),
        seed=3,
    )
    model = TrainableModel.load(spec, device)
    optimizer = torch.optim.AdamW(model.trainable.values(), lr=1e-2)
    told = []
    for _ in range(steps):
        packed = pack(rows(8), torch.device(device))
        places = packed.trained_N
        sums = model.cross_entropy(model.hidden(packed)[places], packed.targets_T[places], packed.weights_T[places])
        loss = sums.loss_sum / sums.weight_sum
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        told.append(float(loss))
    return told


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("gpu-models")
    return {family: write_model(root / family, family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_those_of_the_cpu(models: dict[str, Path], family: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    assert losses(models[family], "cuda") == pytest.approx(losses(models[family], "cpu"), rel=1e-4)


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_learns(models: dict[str, Path], family: str, method: str) -> None:
    told = losses(models[family], "cuda", steps=30, precision="bf16", method=method)
    assert told[-1] < 0.8 * told[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_repeats_itself_bit_for_bit(models: dict[str, Path], family: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (losses(models[family], "cuda", precision="bf16", steps=10) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert [value.hex() for value in first] == [value.hex() for value in second]
