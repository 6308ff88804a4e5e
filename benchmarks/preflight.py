"""How fast data is checked, and in how much memory, beside a named peer. Run: python benchmarks/preflight.py --help

Each measurement is a process of its own, so that its CPU seconds and its peak memory are its own. Rows are GSM8K's and
Banking77's from FINERY_DATA_DIR where that exists, else made up. The peer of the structural check is what OpenAI's
cookbook shows (all rows into a list with json.loads, then a count of format errors); the peer of the token count is the
same with every content encoded by the tokenizers library; the peer of the duplicate search is datasketch, if installed.
The last line is JSON.
"""

import argparse
import csv
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for variable, value in (("TOKENIZERS_PARALLELISM", "false"), ("RAYON_NUM_THREADS", "1")):  # figures are per core
    os.environ.setdefault(variable, value)

DATA = Path(os.environ.get("FINERY_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
MB = 1_000_000


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("system", "user", "assistant")[-len(texts) :]
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)], **more}


def gsm8k() -> list[dict[str, Any]]:
    if not DATA.is_dir():
        return made_up(200)
    with (DATA / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        return [chat("Work it out.", row["question"], row["answer"]) for row in map(json.loads, file)]


def banking77() -> list[dict[str, Any]]:
    if not DATA.is_dir():
        return made_up(12)
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        return [chat(row["text"], row["category"]) for row in csv.DictReader(file)]


def tooled() -> list[dict[str, Any]]:
    """Rows with tools, which the fast path of preflight doesn't take."""
    function = {"name": "look_up", "description": "Looks it up.", "parameters": {"type": "object", "properties": {}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"id": 7}'}}
    rows = []
    for row in gsm8k():
        system, user, assistant = row["messages"]
        calling = {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = {"role": "tool", "tool_call_id": "call_1", "content": "It is seven."}
        talk = [system, user, calling, answer, assistant]
        rows.append({"messages": talk, "tools": [{"type": "function", "function": function}]})
    return rows


def made_up(words: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    lexicon = ["".join(rng.choices("abcdefghijklmnop", k=rng.randrange(2, 9))) for _ in range(3000)]
    return [chat(" ".join(rng.choices(lexicon, k=words)), " ".join(rng.choices(lexicon, k=words))) for _ in range(5000)]


def write(path: Path, rows: list[dict[str, Any]], size: int) -> None:
    """The rows again and again, up to the size in bytes."""
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    block = b"".join(lines)
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        left = size % len(block)
        file.write(block[: block.rfind(b"\n", 0, left) + 1])


def structural(path: Path) -> int:
    from finery.data.preflight import check

    report = check(path, "fine-tune")
    assert report.ok, report.summary
    return report.rows


def cookbook(path: Path) -> int:
    """What the cookbook's notebook does, in its order: load everything, then look at every message."""
    with path.open(encoding="utf-8") as file:
        dataset = [json.loads(line) for line in file]
    errors: Counter[str] = Counter()
    for row in dataset:
        messages = row.get("messages") if isinstance(row, dict) else None
        if not messages:
            errors["missing_messages_list"] += 1
            continue
        for message in messages:
            errors["message_missing_key"] += "role" not in message or "content" not in message
            allowed = ("role", "content", "name", "function_call", "weight", "tool_calls", "tool_call_id")
            errors["message_unrecognized_key"] += any(key not in allowed for key in message)
            errors["unrecognized_role"] += message.get("role") not in (
                "system",
                "user",
                "assistant",
                "function",
                "tool",
            )
        errors["example_missing_assistant_message"] += not any(message["role"] == "assistant" for message in messages)
    assert not +errors, errors
    return len(dataset)


def tokenized(path: Path, model: Path) -> int:
    from finery.data.tokens import check_tokens
    from finery.modeling.template import ChatTemplate

    report = check_tokens(path, ChatTemplate.load(model), max_tokens=100_000)
    assert report.ok, report.summary
    return int(report.statistics["tokens"])


def contents_encoded(path: Path, model: Path) -> int:
    """Tokens of the contents alone: no template, no answer to what is trained."""
    from tokenizers import Tokenizer

    tokenizer, tokens = Tokenizer.from_file(str(model / "tokenizer.json")), 0
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            texts = [message["content"] for message in row["messages"]]
            tokens += sum(len(encoding) for encoding in tokenizer.encode_batch(texts))
    return tokens


def quality(path: Path) -> int:
    from finery.data.quality import inspect

    return inspect(path).rows


def repeats(path: Path) -> int:
    from finery.data.corpus import Corpus
    from finery.data.duplicates import find_repeats

    return len(find_repeats(Corpus(path)))


def datasketch(path: Path) -> int:
    """MinHash and LSH as its documentation shows, on the same pieces of five characters."""
    from datasketch import MinHash, MinHashLSH

    from finery.data.rows import iterate
    from finery.data.texts import row_text

    index, found = MinHashLSH(threshold=0.8, num_perm=128), 0
    for number, row in iterate(path):
        text = " ".join(row_text(row).casefold().split())
        sketch = MinHash(num_perm=128)
        sketch.update_batch([text[start : start + 5].encode() for start in range(max(1, len(text) - 4))])
        found += bool(index.query(sketch))
        index.insert(str(number), sketch)
    return found


def _child(work: Callable[..., int], arguments: tuple[Any, ...], answers: Any) -> None:
    before, started = time.process_time(), time.perf_counter()
    result = work(*arguments)
    used = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answers.put((result, used, time.perf_counter() - started, peak))


def measure(name: str, work: Callable[..., int], path: Path, *more: Any) -> dict[str, Any]:
    """Run in a fresh process; MB of file per CPU second, which is per core, and the peak memory."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_child, args=(work, (path, *more), answers))
    child.start()
    result, used, wall, peak = answers.get()
    child.join()
    size = path.stat().st_size
    figures = {
        "mb_per_core_second": round(size / MB / used, 2), "cpu_seconds": round(used, 2), "seconds": round(wall, 2),
        "peak_mb": round(peak / MB, 1), "file_mb": round(size / MB, 1), "result": result,
    }  # fmt: skip
    print(f"{name:46} {figures['mb_per_core_second']:9.2f} MB/s/core {figures['peak_mb']:8.1f} MB peak   ({result:,})")
    return figures


def measurements(folder: Path, size: int, token_size: int, model: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure by name."""
    path = folder / "data.jsonl"
    for name, rows in (("gsm8k", gsm8k), ("banking77", banking77), ("tools", tooled)):
        write(path, rows(), size)
        yield f"structural, {name}", measure(f"structural, {name}", structural, path)
        if name != "tools":
            # The peer holds all rows in memory: a tenth of the file tells its speed, and its memory is by the MB.
            write(path, rows(), size // 10)
            yield f"peer: cookbook check, {name}", measure(f"peer: cookbook check, {name}", cookbook, path)
    for name, rows in (("gsm8k", gsm8k), ("banking77", banking77)):
        write(path, rows(), token_size)
        if model is not None:
            yield f"tokens, {name}", measure(f"tokens, {name}", tokenized, path, model)
            yield f"peer: tokenizers, {name}", measure(f"peer: tokenizers, {name}", contents_encoded, path, model)
        write(path, rows(), sum(len(json.dumps(row, ensure_ascii=False).encode()) + 1 for row in rows()))
        yield f"quality report, {name}", measure(f"quality report, {name}", quality, path)
        yield f"duplicates, {name}", measure(f"duplicates, {name}", repeats, path)
        try:
            import datasketch as _  # noqa: F401
        except ImportError:
            continue
        yield f"peer: datasketch, {name}", measure(f"peer: datasketch, {name}", datasketch, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500, help="size of the file for the structural check")
    parser.add_argument("--token-megabytes", type=int, default=20, help="size of the file that is tokenized")
    parser.add_argument("--model", type=Path, help="folder of a base model; without it tokens are not counted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = arguments.megabytes * MB, arguments.token_megabytes * MB
        figures = dict(measurements(Path(folder), *sizes, arguments.model))
    print(json.dumps({"benchmark": "preflight", "figures": figures}))


if __name__ == "__main__":
    main()
