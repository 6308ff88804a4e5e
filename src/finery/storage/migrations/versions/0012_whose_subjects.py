"""A principal's subject is that of one identity provider: two providers may call two people alike."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("principals") as table:
        table.add_column(sa.Column("issuer", sa.String(255)))
        table.drop_constraint(op.f("uq_principals_subject"), type_="unique")
        table.create_unique_constraint(op.f("uq_principals_subject_issuer"), ["subject", "issuer"])
