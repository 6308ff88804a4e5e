"""What a check has to say about a file: findings with a line and a way out, and the report that sums them up.

`CODES` is the table of everything a check can find. It knows no JSON and reads no file.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from finery.core.datasets import Format

Level = Literal["error", "warning"]

MAX_FINDINGS = 200
"""Findings shown in a report unless told otherwise; the rest is counted by code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One fault of one line."""

    code: str
    """A key of `CODES`."""
    level: Level
    """An error rejects the file, a warning doesn't."""
    line: int
    """Counted from 1, blank lines included; 0 is the file as a whole."""
    path: str
    """JSON path inside the line, such as `$.messages[1].role`; `$` is the whole line."""
    message: str
    """What is wrong there, with the value at fault."""
    help: str
    """The way out."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was found in one file."""

    ok: bool
    """No error; warnings don't count."""
    format: Format | None
    """The shape of the rows, by the first row that has one; None for what is not checked line by line."""
    rows: int
    """Lines read as a JSON object, whether or not its content is at fault: the examples a job would see."""
    bytes: int
    findings: tuple[Finding, ...]
    """By line; errors go first where the cap leaves something out."""
    truncated_findings: int
    """Findings that were counted but are not in `findings`."""
    summary: str
    """One sentence, for a file's `status_details`."""
    counts: dict[str, int] = field(default_factory=dict)
    """Findings by code, shown or not."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """Messages by role, rows with tools or weights, rows by label, longest line in bytes: by the format."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; `from_json` is the inverse."""
        return {**dataclasses.asdict(self), "findings": [finding.to_json() for finding in self.findings]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Report":
        """The inverse of `to_json`; an unknown field is a TypeError."""
        return Report(**{**data, "findings": tuple(Finding(**finding) for finding in data["findings"])})


class Code(NamedTuple):
    """What a code means: its level and the way out."""

    level: Level
    help: str


PREFLIGHT_CODES: dict[str, Code] = {
    # The file as a whole.
    "empty_file": Code("error", "Upload a file with one JSON object on each line."),
    "no_rows": Code("error", "Write one JSON object on each line; the file holds none."),
    "compressed_file": Code("error", "Unpack the file and upload the plain .jsonl."),
    "binary_file": Code(
        "error", "Upload UTF-8 text, one JSON object on each line; `finery files convert` reads Parquet."
    ),
    "utf16_file": Code("error", "Save the file as UTF-8."),
    "json_array": Code("error", "Write one object a line instead of one array (`jq -c '.[]' in.json > out.jsonl`)."),
    # The bytes of a line.
    "line_too_long": Code("error", "Split the example or shorten its texts."),
    "blank_line": Code("warning", "Nothing to do; blank lines are skipped."),
    "not_utf8": Code("error", "Save the file as UTF-8 (`iconv -f LATIN1 -t UTF-8`)."),
    "nul_character": Code("error", "Remove the NUL character."),
    "invalid_json": Code("error", "Write the line with a JSON library, one object on one line."),
    "several_values": Code("error", "Put each JSON object on a line of its own."),
    "spread_over_lines": Code(
        "error", "Write each object on one line, without indentation (`jq -c . in > out.jsonl`)."
    ),
    "control_character": Code("error", "Escape it (\\n, \\t); a JSON library does so."),
    "not_finite": Code("error", "JSON has no NaN or Infinity; leave the key out or write null."),
    "number_out_of_range": Code("error", "Write the number as a string or make it smaller."),
    "lone_surrogate": Code("error", "Write the character whole; half of a surrogate pair is no character."),
    "too_deep": Code("error", "Flatten the structure."),
    "duplicate_key": Code("error", "Keep one of them; readers disagree on which counts."),
    "not_an_object": Code("error", "Each line must be a JSON object: {…}."),
    # The shape of a row.
    "unknown_format": Code(
        "error",
        "A row has `messages`, or `prompt` and `completion`, or `input`, `preferred_output` and "
        "`non_preferred_output`, or `text` and one of `label`, `labels`, `target`.",
    ),
    "mixed_formats": Code("error", "Keep one format in a file; split the file."),
    "missing_key": Code("error", "Add it."),
    "wrong_type": Code("error", "Give it the type that is asked for."),
    "empty_list": Code("error", "Fill it or leave the key out."),
    # Messages.
    "unknown_role": Code("error", "Roles are system, developer, user, assistant, tool and, in old files, function."),
    "unknown_message_key": Code("warning", "It is ignored; see that it is no slip of the pen."),
    "empty_content": Code("error", "Write the answer; this one would teach the model to say nothing."),
    "blank_content": Code("warning", "Remove the message or write its text."),
    "unsupported_content_part": Code("error", "Use text parts only; images, audio and files can't be trained on here."),
    "no_assistant_message": Code(
        "error",
        "End the example with the assistant's answer; for reinforcement, give the row a field that the grader reads.",
    ),
    "no_user_message": Code("warning", "See that the example is whole: the assistant answers nobody."),
    "no_trained_message": Code("error", "Give at least one assistant message weight 1, or leave the weights out."),
    "last_message_not_assistant": Code("warning", "What follows the last assistant message is not trained on."),
    "system_not_first": Code("warning", "Put it first; many chat templates refuse it elsewhere."),
    "repeated_role": Code("warning", "Join the messages; many chat templates refuse two of one role in a row."),
    "misplaced_weight": Code("error", "Set weight on assistant messages only."),
    "invalid_weight": Code("error", "Weights are 0 (not trained) or 1 (trained)."),
    "invalid_name": Code("error", "Names have 1 to 64 characters, no spaces, none of < > | \\ /."),
    # Tools.
    "invalid_tool": Code("error", 'Write {"type": "function", "function": {"name": …, "parameters": {…}}}.'),
    "too_many_tools": Code("error", "Offer at most 128 tools."),
    "invalid_function_name": Code("error", "Function names have 1 to 64 of a-z, A-Z, 0-9, _ and -."),
    "duplicate_tool": Code("error", "Give each function a name of its own."),
    "invalid_tool_call": Code(
        "error", 'Write {"id": …, "type": "function", "function": {"name": …, "arguments": "{…}"}}.'
    ),
    "invalid_tool_arguments": Code("error", "Write the arguments as a string that holds one JSON object."),
    "unknown_tool": Code("error", "Offer the function in `tools` (or `functions`) of the same row."),
    "tools_not_given": Code("warning", "Add `tools`, as the application will send them."),
    "misplaced_tool_calls": Code("error", "Only assistant messages call tools."),
    "duplicate_tool_call_id": Code("error", "Give each call of a row an id of its own."),
    "tool_call_unanswered": Code("error", "Follow the call with a tool message of the same `tool_call_id`."),
    "tool_answer_unasked": Code("error", "Set `tool_call_id` to the id of a call made just before."),
    # Preference pairs.
    "invalid_output_role": Code("error", "Outputs hold assistant and tool messages only."),
    "same_outputs": Code("error", "Make them differ; equal outputs teach nothing."),
    "input_ends_with_assistant": Code("warning", "End the input with the user's message that both outputs answer."),
    # Reinforcement.
    "last_message_not_user": Code("error", "End the messages with the user's; the answers are drawn from the model."),
    # Classification and regression.
    "blank_text": Code("error", "Write the text, or drop the row."),
    "blank_label": Code("error", "Name the label."),
    "duplicate_label": Code("warning", "Name each label once; the repetition is ignored."),
    "too_many_labels": Code(
        "warning", "See that these are labels; free answers are for chat rows, numbers for `target`."
    ),
    "one_label_only": Code("warning", "A classifier needs at least two labels."),
    # Batches.
    "duplicate_custom_id": Code("error", "Give each request an id of its own; answers are told apart by it."),
    "invalid_method": Code("error", "Use POST."),
    "invalid_url": Code("error", "Use /v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses."),
    "mixed_urls": Code("error", "Send requests of one endpoint in a batch."),
    "mixed_models": Code("error", "Send requests for one model in a batch."),
    "stream_in_batch": Code("error", "Leave `stream` out; a batch's answers come in a file."),
    "too_many_requests": Code("error", "Split the batch: it takes at most 50,000 requests."),
}
"""What `preflight` finds."""

TOKEN_CODES: dict[str, Code] = {
    "template_refused": Code("error", "Bring the messages into the order this model's chat template accepts."),
    "no_trained_token": Code("error", "Give the row an assistant message with text and weight 1."),
    "no_end_token": Code("error", "End the row with a trained assistant message: it never learns to stop otherwise."),
    "over_context": Code("error", "Shorten the example, or choose a longer context (`max_tokens_per_example`)."),
    "special_token_in_text": Code("warning", "See that the text means the control token itself; else remove it."),
}
"""What `tokens` finds."""

QUALITY_CODES: dict[str, Code] = {
    "exact_duplicate": Code("warning", "Drop it with the cleaning step drop_exact_duplicates."),
    "near_duplicate": Code("warning", "Look at both; drop_near_duplicates keeps the first."),
    "leaked_row": Code("warning", "Take it out of one file; the validation loss looks better than it is."),
    "conflicting_answers": Code("warning", "Keep the right answer; the model can't learn both."),
    "personal_data": Code("warning", "Mask it with mask_personal_data, or drop the row."),
    "secret": Code("warning", "Revoke it, then mask it with mask_secrets: a tuned model may say it to anyone."),
    "refusal": Code("warning", "Drop it with drop_refusals, unless the model is meant to refuse this."),
    "odd_characters": Code("warning", "See what it should be; remove_odd_characters takes out what nobody can see."),
    "length_outlier": Code("warning", "Look at it; one very long row can outweigh hundreds."),
    "other_language": Code("warning", "See that the language is meant."),
    "rare_label": Code("warning", "Add examples, or merge it with another label."),
    "unbalanced_labels": Code("warning", "Add examples of the rare labels, or drop some of the frequent ones."),
    "unknown_label": Code("warning", "Add training examples of it; the model can't learn it from validation."),
    "repeated_answer": Code("warning", "See that the model is meant to say the same so often."),
}
"""What `quality` finds."""

CODES = PREFLIGHT_CODES | TOKEN_CODES | QUALITY_CODES


class Findings:
    """Collects findings up to a cap and counts the rest; errors never give way to warnings."""

    def __init__(self, cap: int = MAX_FINDINGS) -> None:
        self.counts: Counter[str] = Counter()
        self._cap = cap
        self._kept: dict[Level, list[Finding]] = {"error": [], "warning": []}

    def add(self, code: str, line: int, path: str, message: str, *, times: int = 1) -> None:
        """Note a finding; `times` counts it so often while it is shown once."""
        self.counts[code] += times
        level, way_out = CODES[code]
        kept = self._kept[level]
        if len(kept) < self._cap:
            kept.append(Finding(code=code, level=level, line=line, path=path, message=message, help=way_out))

    @property
    def errors(self) -> int:
        """How many errors were found, shown or not."""
        return sum(count for code, count in self.counts.items() if CODES[code].level == "error")

    @property
    def total(self) -> int:
        """How many findings there are, shown or not."""
        return self.counts.total()

    def shown(self) -> tuple[Finding, ...]:
        """At most the cap, by line; errors first in line for a place."""
        errors = self._kept["error"]
        kept = errors + self._kept["warning"][: self._cap - len(errors)]
        return tuple(sorted(kept, key=lambda finding: finding.line))

    def report(self, *, form: Format | None, rows: int, size: int, statistics: dict[str, Any]) -> Report:
        """The report of everything noted so far; `size` is the file's length in bytes."""
        shown = self.shown()
        return Report(
            ok=self.errors == 0,
            format=form,
            rows=rows,
            bytes=size,
            findings=shown,
            truncated_findings=self.total - len(shown),
            summary=self._summary(form, rows, shown),
            counts=dict(self.counts),
            statistics=statistics,
        )

    def _summary(self, form: Format | None, rows: int, shown: tuple[Finding, ...]) -> str:
        kind = f"{form} " if form else ""
        counted = f"{rows:,} {kind}{'row' if rows == 1 else 'rows'}"
        warnings = self.total - self.errors
        noted = f"{warnings:,} warning{'' if warnings == 1 else 's'}"
        if self.errors == 0:
            return f"{counted}, no errors, {noted}."
        errors = [finding for finding in shown if finding.level == "error"]
        first = max(errors, key=lambda finding: bool(finding.line))
        where = f"line {first.line}, {first.path}: " if first.line else ""
        number = f"{self.errors:,} error{'' if self.errors == 1 else 's'} and {noted} in {counted}"
        return f"{number}; first: {where}{first.message.rstrip('.')}."
