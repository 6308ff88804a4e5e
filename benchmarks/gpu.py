"""Training on a GPU, next to transformers + PEFT: a random model of Phi-3 mini's size, LoRA on all linear layers, bf16.

    python benchmarks/gpu.py [--layers 32] [--batch-size 16] [--steps 8] [--rounds 2]

The peer is what people write by hand: the same model code and the same adapters by PEFT, rows padded to the batch's
longest, torch's own attention (SDPA), autocast to bf16, AdamW. Both see the same rows in the same order, in turn
(A B A B). Rows have the lengths of short chat examples (drawn once, seeded), half of each row is trained. Prints real
tokens per second (padding doesn't count), peak memory, and how far apart the first losses are. The last line is JSON.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finery.training.model import TrainableModel
from finery.training.packing import pack
from finery.training.spec import LoraSpec, RunSpec

VOCABULARY = 32064
LEARNING_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Row:
    """One training example."""

    tokens: list[int]
    weights: list[float]


Step = Callable[[list[Row]], float]


def main() -> None:
    """Measure both in turn and print what came out."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--layers", type=int, default=32)
    arguments.add_argument("--batch-size", type=int, default=16)
    arguments.add_argument("--steps", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=2)
    asked = arguments.parse_args()
    device = torch.device("cuda")
    batches = make_batches(asked.steps + 2, asked.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), asked.layers)
        found: dict[str, list[dict[str, Any]]] = {"finery": [], "peft": []}
        for _ in range(asked.rounds):
            for name, make in (("finery", finery_step), ("peft", peft_step)):
                found[name].append(measure(make, Path(folder), batches, device))
                print(name, found[name][-1], flush=True)
    ours, theirs = (
        {key: sum(run[key] for run in runs) / len(runs) for key in ("tokens_per_second", "peak_gb", "first_loss")}
        for runs in found.values()
    )
    figures = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "finery": ours,
        "peft": theirs,
        "ratio": ours["tokens_per_second"] / theirs["tokens_per_second"],
        "memory_ratio": ours["peak_gb"] / theirs["peak_gb"],
        "first_loss_difference": abs(ours["first_loss"] - theirs["first_loss"]) / theirs["first_loss"],
    }
    print(json.dumps(figures))


def measure(
    make: Callable[[Path, torch.device], Step], folder: Path, batches: list[list[Row]], device: torch.device
) -> dict[str, Any]:
    """One side over all batches; the first two steps warm up and aren't timed."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = make(folder, device)
    losses = [step(rows) for rows in batches[:2]]
    torch.cuda.synchronize()
    began = time.perf_counter()
    losses += [step(rows) for rows in batches[2:]]
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    tokens = sum(len(row.tokens) for rows in batches[2:] for row in rows)
    return {
        "tokens_per_second": tokens / seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def finery_step(folder: Path, device: torch.device) -> Step:
    """Finery's engine: rows laid one after the other, head on trained tokens only."""
    spec = RunSpec(
        job_id="benchmark",
        base_model="phi3-mini-sized",
        model_folder=str(folder),
        training_file="",
        precision="bf16",
        lora=LoraSpec(rank=16, alpha=32),
    )
    model = TrainableModel.load(spec, device)
    optimizer = torch.optim.AdamW(model.trainable.values(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def step(rows: list[Row]) -> float:
        packed = pack(rows, device)
        places = packed.trained_N
        sums = model.cross_entropy(model.hidden(packed)[places], packed.targets_T[places], packed.weights_T[places])
        loss = sums.loss_sum / sums.weight_sum
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return step


def peft_step(folder: Path, device: torch.device) -> Step:
    """transformers + PEFT, padded."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").to(device)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config, autocast_adapter_dtype=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def step(rows: list[Row]) -> float:
        inputs = padded(rows, device)
        with torch.autocast("cuda", torch.bfloat16):
            loss: Tensor = model(**inputs, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return step


def padded(rows: list[Row], device: torch.device) -> dict[str, Tensor]:
    """Rows as a batch of equal length."""
    longest = max(len(row.tokens) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, row in enumerate(rows):
        length = len(row.tokens)
        ids[index, :length] = torch.tensor(row.tokens)
        mask[index, :length] = 1
        trained = torch.tensor(row.weights) > 0
        labels[index, :length][trained] = ids[index, :length][trained]
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": labels.to(device)}


def make_batches(count: int, batch_size: int) -> list[list[Row]]:
    """Random rows with the lengths of short chat examples: median 180 tokens, up to 800."""
    draw = random.Random(0)

    def row() -> Row:
        length = max(16, min(800, round(draw.lognormvariate(5.2, 0.6))))
        tokens = [draw.randrange(3, VOCABULARY) for _ in range(length)]
        return Row(tokens, [float(place >= length // 2) for place in range(length)])

    return [[row() for _ in range(batch_size)] for _ in range(count)]


def write_model(folder: Path, layers: int) -> None:
    """Phi-3 mini's shapes with random weights, as a Hugging Face folder."""
    from transformers import Phi3Config, Phi3ForCausalLM

    config = Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=32,
        max_position_embeddings=4096,
        pad_token_id=0,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Phi3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
