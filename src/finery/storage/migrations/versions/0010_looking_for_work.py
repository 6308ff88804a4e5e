"""Indexes that find a project's next job without reading all others."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_jobs_project_id_status_position"), "jobs", ["project_id", "status", "position"])
    op.create_index(op.f("ix_jobs_project_id_started_at"), "jobs", ["project_id", "started_at"])
