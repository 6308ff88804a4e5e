"""Objects that are kept as they were told to the client: uploads, permissions, batches, stored answers, webhooks,
policies, blocklists, protected works, safety evaluations.

What nobody computes with has no columns of its own; `body` is for whoever wrote it. Knows no storage.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a record is; kinds never see each other."""

    UPLOAD = "upload"
    UPLOAD_PART = "upload_part"
    PERMISSION = "permission"
    COMPLETION = "completion"
    RESPONSE = "response"
    COMPACTION = "compaction"
    CONVERSATION = "conversation"
    CONVERSATION_ITEM = "conversation_item"
    BATCH = "batch"
    BATCH_LINE = "batch_line"
    CONTAINER = "container"
    CONTAINER_BLOB = "container_blob"
    NAMED_JOB = "named_job"
    EXPORT = "export"
    CAPTURE_POLICY = "capture_policy"
    CAPTURED = "captured"
    EVAL = "eval"
    EVAL_RUN = "eval_run"
    EVAL_ITEM = "eval_item"
    EVALUATION = "evaluation"
    PROMOTION_RULE = "promotion_rule"
    PROMOTION = "promotion"
    SWEEP = "sweep"
    EVALUATION_ANSWER = "evaluation_answer"
    WEBHOOK_ENDPOINT = "webhook_endpoint"
    WEBHOOK_DELIVERY = "webhook_delivery"
    RESUME_FILE = "resume_file"
    TRACKED_RUN = "tracked_run"
    POLICY = "policy"
    BLOCKLIST = "blocklist"
    SAFETY_EVALUATION = "safety_evaluation"
    PROTECTED_WORK = "protected_work"
    TRAINED_RUNS = "trained_runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One object of a project."""

    id: str
    project_id: str
    kind: Kind
    owner: str = ""
    """What it belongs to (a part to its upload, a permission to its model); lists can be narrowed by it."""
    status: str = ""
    metadata: dict[str, str] | None = None
    body: dict[str, Any] = field(default_factory=dict)
    created_at: int
    expires_at: int | None = None
