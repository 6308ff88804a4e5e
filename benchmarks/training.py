"""How fast Finery's training core is beside TRL's SFTTrainer. Run: python benchmarks/training.py --help

Both train the same LoRA (r=16, all linear layers) from the same adapter, on the same examples in the same order, with
AdamW. They take turns (A B A B), each turn a process of its own, so that its peak memory is its own and a slow minute
of the machine falls on both. Tokens are real ones: padding doesn't count. What documents begin with in common (the
template's system prompt) Finery computes once a step, as it does in a job, unless --no-sharing is given; a token counts
for each document that has it, on both sides. The share of the machine's limit is the time that the step's products with
frozen weights (forward, and the gradient by their input) take when torch.mm does them alone, for the rows that Finery
computes, over the time of the whole step. With --reference, a plain loop over transformers and PEFT in fp32, one
document at a time, gives the losses to hold Finery's against. TRL runs without activation checkpointing, which is its
faster way, unless --peer-checkpointing is given. The last line is JSON.
"""

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("FINERY_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
BATCH = 8
RANK, ALPHA = 16, 32
LEARNING_RATE = 1e-3
WARM_UP = 1  # steps not timed
GB = 1_000_000_000


def rows(name: str) -> list[dict[str, Any]]:
    if name == "gsm8k":
        with (DATA / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
            pairs = [(row["question"], row["answer"]) for row in map(json.loads, file)]
    else:
        with (DATA / "banking77" / "train.csv").open(encoding="utf-8") as file:
            pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(pairs)
    return [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in pairs]


def prepare(args: argparse.Namespace, folder: Path) -> None:
    """Write the batches and the adapter that every side starts from."""
    from safetensors.torch import save_file

    from finery.modeling.template import ChatTemplate
    from finery.training.model import TrainableModel

    template = ChatTemplate.load(Path(args.model))
    wanted = BATCH * (args.steps + WARM_UP)
    examples = [template.encode_example(row) for row in rows(args.data)[:wanted]]
    batches = [
        [{"tokens": e.tokens, "weights": e.weights} for e in examples[at : at + BATCH]]
        for at in range(0, wanted, BATCH)
    ]
    (folder / "batches.json").write_text(json.dumps(batches), encoding="utf-8")
    model = TrainableModel.load(finery_spec(args), "cpu")
    save_file(model.state(), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(model.adapter_config()), encoding="utf-8")


def finery_spec(args: argparse.Namespace) -> Any:
    from finery.training.spec import LoraSpec, OptimizerSpec, RunSpec

    return RunSpec(
        job_id="benchmark",
        base_model="benchmark",
        model_folder=args.model,
        training_file="",
        precision=args.precision,
        lora=LoraSpec(rank=RANK, alpha=ALPHA),
        optimizer=OptimizerSpec(learning_rate=LEARNING_RATE, schedule="constant", warmup_ratio=0.0),
    )


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class Clock:
    """Losses and seconds of each step."""

    now = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self._at = self.now()

    def start(self) -> None:
        self._wait()
        self._at = self.now()

    def stop(self) -> None:
        self._wait()
        self.seconds.append(self.now() - self._at)

    @staticmethod
    def _wait() -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def finery_side(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    from finery.modeling.template import Example
    from finery.training.model import TrainableModel
    from finery.training.optimizers import Optimizer
    from finery.training.packing import pack

    model = TrainableModel.load(finery_spec(args), device())
    model.load_state(load_file(folder / "adapter_model.safetensors"))
    optimizer = Optimizer(finery_spec(args).optimizer, model.trainable)
    clock = Clock()
    for number, batch in enumerate(load_batches(folder), 1):
        clock.start()
        share = model.shares_beginnings and not args.no_sharing
        packed = pack([Example(**example) for example in batch], model.device, share=share)
        trained = packed.trained_N
        sums = model.cross_entropy(model.hidden(packed)[trained], packed.targets_T[trained], packed.weights_T[trained])
        loss = sums.loss_sum / sums.weight_sum
        loss.backward()
        optimizer.step(number, LEARNING_RATE, optimizer.gradient_norm())
        clock.losses.append(loss.item())
        clock.stop()
    found = report(clock)
    if args.limit:
        found["limit_seconds"] = limit(args, folder, dtype(args), share=model.shares_beginnings and not args.no_sharing)
    return found


def trl_side(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    examples = [example for batch in load_batches(folder) for example in batch]
    data = Dataset.from_list(
        [
            {
                "input_ids": e["tokens"],
                "labels": [t if w else -100 for t, w in zip(e["tokens"], e["weights"], strict=True)],
            }
            for e in examples
        ]
    )
    base = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype(args))
    model = PeftModel.from_pretrained(base, folder, is_trainable=True)
    clock = Clock()

    class Steps(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.stop()

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            if "loss" in logs:
                clock.losses.append(float(logs["loss"]))

    config = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        bf16=args.precision == "bf16",
        use_cpu=device() == "cpu",
        gradient_checkpointing=args.peer_checkpointing,
        train_sampling_strategy="sequential",
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer, callbacks=[Steps()]).train()
    return report(clock)


def reference_side(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One document at a time through transformers and PEFT, losses summed over a batch, torch's AdamW."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder, is_trainable=True)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    clock = Clock()
    for batch in load_batches(folder):
        clock.start()
        total = sum(sum(e["weights"][1:]) for e in batch)
        loss_sum = 0.0
        for e in batch:
            tokens = torch.tensor([e["tokens"]])
            logits = model(input_ids=tokens).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none")
            loss = (losses * torch.tensor(e["weights"][1:])).sum() / total
            loss.backward()
            loss_sum += loss.item()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.losses.append(loss_sum)
        clock.stop()
    return report(clock)


def load_batches(folder: Path) -> list[list[dict[str, Any]]]:
    batches: list[list[dict[str, Any]]] = json.loads((folder / "batches.json").read_text(encoding="utf-8"))
    return batches


def dtype(args: argparse.Namespace) -> Any:
    import torch

    return torch.bfloat16 if args.precision == "bf16" else torch.float32


def report(clock: Clock) -> dict[str, Any]:
    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return {"losses": clock.losses, "seconds": clock.seconds, "peak_bytes": peak}


def row_tokens(batch: list[dict[str, Any]], *, share: bool) -> int:
    """Tokens that Finery computes for a batch."""
    from finery.modeling.template import Example
    from finery.training.packing import packed_tokens

    return packed_tokens([Example(**example) for example in batch], share=share)


def limit(args: argparse.Namespace, folder: Path, products: Any, *, share: bool) -> float:
    """Seconds that torch.mm takes for an average timed step's products with frozen weights, into memory at hand."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    batches = load_batches(folder)[WARM_UP:]
    tokens = sum(row_tokens(batch, share=share) for batch in batches) // len(batches)
    trained = sum(w > 0 for batch in batches for e in batch for w in e["weights"][1:]) // len(batches)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(args.model))
    output = model.get_output_embeddings()
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    counts = Counter((trained if m is output else tokens, m.out_features, m.in_features) for m in linears)
    # The first attention layer's input needs no gradient.
    first = {
        id(m) for name, m in model.named_modules() if ".layers.0.self_attn." in f".{name}" and "o_proj" not in name
    }
    skipped = Counter((tokens, m.out_features, m.in_features) for m in linears if id(m) in first)
    total = 0.0
    for (rows_, out, into), count in counts.items():
        x = torch.randn(rows_, into, dtype=products, device=device())
        weight = torch.randn(out, into, dtype=products, device=device())
        y = torch.randn(rows_, out, dtype=products, device=device())
        forward = timed(lambda x=x, w=weight, y=y: torch.mm(x, w.t(), out=y))
        backward = timed(lambda x=x, w=weight, y=y: torch.mm(y, w, out=x))
        total += forward * count + backward * (count - skipped[rows_, out, into])
    return total


def timed(work: Any, repeats: int = 7) -> float:
    work()
    best = float("inf")
    clock = Clock()
    for _ in range(repeats):
        clock.start()
        work()
        clock.stop()
        best = min(best, clock.seconds[-1])
    return best


def turn(args: argparse.Namespace, side: str, folder: Path, *extra: str) -> dict[str, Any]:
    python = sys.executable if side == "finery" else args.peer_python
    command = [
        python,
        __file__,
        "--side",
        side,
        "--folder",
        str(folder),
        "--model",
        args.model,
        "--steps",
        str(args.steps),
    ]
    command += ["--precision", args.precision, "--threads", str(args.threads), *extra]
    command += ["--peer-checkpointing"] * args.peer_checkpointing + ["--cpu-time"] * args.cpu_time
    command += ["--no-sharing"] * args.no_sharing
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def speed(folder: Path, found: dict[str, Any]) -> float:
    tokens = [sum(len(e["tokens"]) for e in batch) for batch in load_batches(folder)]
    return sum(tokens[WARM_UP:]) / sum(found["seconds"][WARM_UP:])


def furthest(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of losses, step by step."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def compare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    prepare(args, folder)
    batches = load_batches(folder)
    lengths = [[len(e["tokens"]) for e in batch] for batch in batches]
    apart = sum(map(sum, lengths))
    shared = 0.0 if args.no_sharing else 1 - sum(row_tokens(batch, share=True) for batch in batches) / apart
    padding = 1 - sum(map(sum, lengths)) / sum(max(batch) * BATCH for batch in lengths)
    print(
        f"{args.data}, {args.precision}, {args.threads} threads: {len(batches)} steps of {BATCH}, "
        f"padding {padding:.0%}, of common beginnings {shared:.0%}"
    )
    sides = ["finery"] if args.no_peer else ["finery", "trl"]
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side in sides:
            found = turn(args, side, folder, *(["--limit"] if side == "finery" else []))
            turns[side].append(found)
            peak = found["peak_bytes"] / GB
            print(
                f"  turn {number + 1} {side:7}{speed(folder, found):8.0f} real tokens/s  peak {peak:.2f} GB", flush=True
            )
    figures = {
        "benchmark": "training",
        "data": args.data,
        "precision": args.precision,
        "threads": args.threads,
        "steps": args.steps,
        "cpu_time": args.cpu_time,
        "padding": round(padding, 3),
        "shared": round(shared, 3),
        **alone(args, folder, turns["finery"]),
    }
    if not args.no_peer:
        figures |= beside(args, folder, turns["finery"], turns["trl"])
        print(f"  {figures['ratio']} times TRL in {figures['memory_ratio']} of its memory")
    if args.reference:
        reference = turn(args, "reference", folder)
        figures["reference_difference"] = furthest(turns["finery"][0]["losses"], reference["losses"])
    return figures


def alone(args: argparse.Namespace, folder: Path, ours: list[dict[str, Any]]) -> dict[str, Any]:
    shares = [found["limit_seconds"] / (sum(found["seconds"][WARM_UP:]) / args.steps) for found in ours]
    return {
        "tokens_per_second": round(max(speed(folder, found) for found in ours), 1),
        "peak_gb": round(max(found["peak_bytes"] for found in ours) / GB, 2),
        "share_of_limit": round(max(shares), 3),
        "same_bits_each_turn": len({tuple(found["losses"]) for found in ours}) == 1,
    }


def beside(
    args: argparse.Namespace, folder: Path, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> dict[str, Any]:
    speeds = [max(speed(folder, found) for found in side) for side in (ours, theirs)]
    peaks = [max(found["peak_bytes"] for found in side) for side in (ours, theirs)]
    return {
        "trl_tokens_per_second": round(speeds[1], 1),
        "trl_peak_gb": round(peaks[1] / GB, 2),
        "ratio": round(speeds[0] / speeds[1], 2),
        "memory_ratio": round(peaks[0] / peaks[1], 2),
        "loss_difference": furthest(ours[0]["losses"], theirs[0]["losses"]),
        "peer_checkpointing": args.peer_checkpointing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a base model in Hugging Face's form")
    parser.add_argument("--data", choices=["gsm8k", "banking77"], default="gsm8k")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of a turn")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has benchmarks/requirements.txt")
    parser.add_argument("--no-sharing", action="store_true", help="compute every document's beginning by itself")
    parser.add_argument("--no-peer", action="store_true", help="Finery alone")
    parser.add_argument("--peer-checkpointing", action="store_true", help="TRL's default: less memory, a fifth slower")
    parser.add_argument("--reference", action="store_true", help="hold the losses against transformers + PEFT in fp32")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of CPU: with one thread, on a busy machine")
    parser.add_argument("--side", choices=["finery", "trl", "reference"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        import torch

        torch.set_num_threads(args.threads)
        if args.cpu_time:
            Clock.now = staticmethod(time.process_time)
        side = {"finery": finery_side, "trl": trl_side, "reference": reference_side}[args.side]
        print(json.dumps(side(args, args.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(args, Path(folder))))


if __name__ == "__main__":
    main()
