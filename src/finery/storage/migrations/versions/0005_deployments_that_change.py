"""Deployments with engine, replicas, updates, certificates."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("deployments") as table:
        table.add_column(sa.Column("engine", sa.String(40), nullable=False, server_default="llamacpp"))
        table.add_column(sa.Column("replicas", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("idle_seconds", sa.Integer(), nullable=True))
        table.add_column(sa.Column("revision", sa.String(40), nullable=False, server_default=""))
        table.add_column(sa.Column("update", sa.JSON(), nullable=True))
        table.add_column(sa.Column("certificate", sa.JSON(), nullable=True))
        table.add_column(sa.Column("parity_override", sa.JSON(), nullable=True))
        table.create_index(op.f("ix_deployments_status"), ["status"])
