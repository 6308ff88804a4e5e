"""Subscription, hub, locations, providers; principals and roles; what a key may do.

What was there before goes on working: projects come into a default hub, the first key (the admin's) owns the
subscription, all others own their project, as they did without saying so.
"""

import time
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PROVIDERS = ("Finery.Compute", "Finery.Inference", "Finery.Storage", "Finery.Guard")


def upgrade() -> None:
    _tenancy()
    _people()
    hub_id = _first_rows()
    with op.batch_alter_table("projects") as table:
        table.add_column(sa.Column("hub_id", sa.String(40), nullable=False, server_default=hub_id))
        table.create_foreign_key(op.f("fk_projects_hub_id"), "hubs", ["hub_id"], ["id"])
        table.create_index(op.f("ix_projects_hub_id"), ["hub_id"])
    with op.batch_alter_table("projects") as table:
        table.alter_column("hub_id", server_default=None)
    with op.batch_alter_table("keys") as table:
        table.add_column(sa.Column("role", sa.String(60)))
        table.add_column(sa.Column("level", sa.String(20), nullable=False, server_default="project"))
        table.add_column(sa.Column("permissions", sa.JSON()))
        table.add_column(sa.Column("principal_id", sa.String(40)))
        table.add_column(sa.Column("rotated_from", sa.String(40)))
        table.add_column(sa.Column("expires_at", sa.BigInteger()))
        table.create_foreign_key(op.f("fk_keys_principal_id"), "principals", ["principal_id"], ["id"])
        table.create_unique_constraint(op.f("uq_keys_rotated_from"), ["rotated_from"])
        table.create_index(op.f("ix_keys_project_id"), ["project_id"])
    with op.batch_alter_table("keys") as table:
        table.alter_column("level", server_default=None)
    op.execute("UPDATE keys SET role = 'Owner'")
    op.execute(
        "UPDATE keys SET level = 'subscription' WHERE id = "
        "(SELECT id FROM keys WHERE name = 'admin' ORDER BY created_at, id LIMIT 1)"
    )


def _tenancy() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
        sa.UniqueConstraint("name", name=op.f("uq_subscriptions_name")),
    )
    op.create_table(
        "providers",
        sa.Column("subscription_id", sa.String(40), nullable=False),
        sa.Column("namespace", sa.String(40), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name=op.f("fk_providers_subscription_id")),
        sa.PrimaryKeyConstraint("subscription_id", "namespace", name=op.f("pk_providers")),
    )
    op.create_table(
        "locations",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("display_name", sa.String(100), nullable=False),
        sa.Column("models", sa.JSON()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_locations")),
    )
    op.create_table(
        "hubs",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("subscription_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("resource_group", sa.String(90), nullable=False),
        sa.Column("location", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name=op.f("fk_hubs_subscription_id")),
        sa.ForeignKeyConstraint(["location"], ["locations.name"], name=op.f("fk_hubs_location")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hubs")),
        sa.UniqueConstraint("name", name=op.f("uq_hubs_name")),
    )
    op.create_table(
        "connections",
        sa.Column("hub_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["hub_id"], ["hubs.id"], name=op.f("fk_connections_hub_id")),
        sa.PrimaryKeyConstraint("hub_id", "name", name=op.f("pk_connections")),
    )


def _people() -> None:
    op.create_table(
        "principals",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_principals")),
        sa.UniqueConstraint("name", name=op.f("uq_principals_name")),
        sa.UniqueConstraint("subject", name=op.f("uq_principals_subject")),
    )
    op.create_table(
        "role_assignments",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("principal_id", sa.String(40), nullable=False),
        sa.Column("role", sa.String(60), nullable=False),
        sa.Column("subscription_id", sa.String(40), nullable=False),
        sa.Column("hub_id", sa.String(40)),
        sa.Column("project_id", sa.String(40)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name=op.f("fk_role_assignments_principal_id")),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_role_assignments_subscription_id")
        ),
        sa.ForeignKeyConstraint(["hub_id"], ["hubs.id"], name=op.f("fk_role_assignments_hub_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_role_assignments_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_assignments")),
    )
    op.create_index(op.f("ix_role_assignments_principal_id"), "role_assignments", ["principal_id"])


def _first_rows() -> str:
    """One subscription, one location, one hub, every provider registered: the first start needs no set-up."""
    moment = int(time.time())
    subscription_id, hub_id = str(uuid.uuid4()), f"hub_{uuid.uuid4().hex[:24]}"
    string, number = sa.String(), sa.BigInteger()
    subscriptions = sa.table(
        "subscriptions", sa.column("id", string), sa.column("name", string), sa.column("created_at", number)
    )
    locations = sa.table(
        "locations", sa.column("name", string), sa.column("display_name", string), sa.column("created_at", number)
    )
    hubs = sa.table(
        "hubs",
        sa.column("id", string),
        sa.column("subscription_id", string),
        sa.column("name", string),
        sa.column("resource_group", string),
        sa.column("location", string),
        sa.column("created_at", number),
    )
    providers = sa.table(
        "providers",
        sa.column("subscription_id", string),
        sa.column("namespace", string),
        sa.column("registered_at", number),
    )
    op.bulk_insert(subscriptions, [{"id": subscription_id, "name": "default", "created_at": moment}])
    op.bulk_insert(locations, [{"name": "local", "display_name": "This machine", "created_at": moment}])
    hub = {"id": hub_id, "subscription_id": subscription_id, "name": "default", "resource_group": "default"}
    op.bulk_insert(hubs, [{**hub, "location": "local", "created_at": moment}])
    rows = [{"subscription_id": subscription_id, "namespace": name, "registered_at": moment} for name in _PROVIDERS]
    op.bulk_insert(providers, rows)
    return hub_id
