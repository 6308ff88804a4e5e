"""What differs from OpenAI's API, as one table: `docs/compatibility.md` is made from it, tests hold it to the routes.

python -m finery.api.openai.compatibility > docs/compatibility.md
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """One noun of the API."""

    path: str
    """Where its routes begin, under /v1."""
    differences: str


TABLE = (
    Support(path="/files", differences="None known; JSONL is checked line by line, with a report."),
    Support(
        path="/uploads",
        differences="The MD5 is checked where it is given, in hex or base64; what is neither is passed over.",
    ),
    Support(
        path="/fine_tuning/jobs",
        differences="`supervised`, `dpo` and `reinforcement`, the last on any model that chats, with the graders "
        "`string_check`, `text_similarity` (no cosine), `python` and `multi`: graders that ask a model, and a "
        "`response_format` but text, are a 400. A paused job's status is `paused`, which OpenAI's enum lacks. More "
        "knobs beside OpenAI's.",
    ),
    Support(path="/fine_tuning/checkpoints", differences="None known; a permitted project can use the checkpoint."),
    Support(path="/models", differences="Base models of this machine are listed first."),
    Support(
        path="/chat/completions",
        differences="Text only: other parts are a 400. Function tools only. `functions` are read as `tools` and "
        "answered as `tool_calls`. A required call is one call. Messages of stored completions have their own roles.",
    ),
    Support(
        path="/completions", differences="`suffix` needs a model with tokens for it, else a 400; `best_of` up to 20."
    ),
    Support(
        path="/embeddings",
        differences="The model's own hidden states, averaged; `dimensions` shortens them.",
    ),
    Support(
        path="/moderations",
        differences="Finery's own classifier (docs/safety-model-card.md), whatever `model` says; English; no images.",
    ),
    Support(
        path="/responses",
        differences="Function tools only: others are a 400. A kept response streams its end alone; one "
        "with `background` and `stream` is written while the stream is read. `model` may be left out where the "
        "operator has set `FINERY_DEFAULT_MODEL`. A compaction's `encrypted_content` names a summary that is kept here "
        "for 30 days.",
    ),
    Support(
        path="/conversations",
        differences="Items are messages, function calls, their outputs and compactions; others are a 400. `include` is "
        "passed over. A deleted conversation's items are deleted with it.",
    ),
    Support(path="/batches", differences="Chat, completions, embeddings and responses; one batch at a time."),
    Support(
        path="/webhook_endpoints",
        differences="Private addresses need the operator's `FINERY_PRIVATE_WEBHOOKS=1`; http only there.",
    ),
    Support(
        path="/evals",
        differences="Runs are `jsonl`, `completions` or `responses`. `report_url` leads to the run's items; `error` is "
        "never null. METEOR knows no synonyms. Foundry's `azure_ai_evaluator` with f1_score, bleu_score, gleu_score, "
        "meteor_score, rouge_score, similarity, relevance, fluency, coherence, groundedness, response_completeness.",
    ),
    Support(
        path="/fine_tuning/alpha/graders",
        differences="A python grader imports from a list, opens no file and no socket, and has 10 s of CPU time and "
        "1 GB. `label_model`, and `multi` with several graders, too.",
    ),
    Support(path="/tokenize", differences="As vLLM has it, here and at the root; OpenAI has none."),
)

_HEAD = """# Differences from OpenAI's API

Made from `src/finery/api/openai/compatibility.py`. Paths are under `/v1`. Fields that mean nothing on one's own machine
are taken and passed over. A create that the SDK sends again, or that carries an `Idempotency-Key`, is made once; API
keys are the exception, because their answers hold a secret. Rate limits, and `x-ratelimit` headers, are deployments'.

| Path | Differences |
|---|---|
"""


def page() -> str:
    """The page of differences, in Markdown."""
    return _HEAD + "".join(f"| `{noun.path}` | {noun.differences} |\n" for noun in TABLE)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - this is its purpose
