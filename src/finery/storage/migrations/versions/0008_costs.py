"""Prices, the ledger, budgets; until when a deployment's hosting was charged."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prices",
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("training", sa.BigInteger(), nullable=False),
        sa.Column("hosting", sa.BigInteger(), nullable=False),
        sa.Column("input", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_prices")),
    )
    op.create_table(
        "ledger",
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("meter", sa.String(20), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("unit_price", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "day", "meter", "source", "model", "unit_price", name=op.f("pk_ledger")),
    )
    op.create_index(op.f("ix_ledger_project_id_source"), "ledger", ["project_id", "source"])
    op.create_table(
        "budgets",
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.Column("period", sa.String(20), nullable=False),
        sa.Column("warn_at", sa.Float(), nullable=False),
        sa.Column("warned_at", sa.BigInteger()),
        sa.Column("exhausted_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_budgets_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_budgets")),
    )
    with op.batch_alter_table("deployments") as table:
        table.add_column(sa.Column("charged_until", sa.BigInteger()))
