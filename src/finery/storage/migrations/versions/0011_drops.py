"""Marks on bytes that are being removed, and an index that finds who else names them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drops",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("mark", sa.String(40), nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index(op.f("ix_files_sha256"), "files", ["sha256"])
