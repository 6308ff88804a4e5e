"""The tables. Times are whole seconds since 1970; JSON columns hold what nobody searches by."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

providers = Table(
    "providers",
    metadata,
    # A row for each that is registered.
    Column("subscription_id", ForeignKey("subscriptions.id"), primary_key=True),
    Column("namespace", String(40), primary_key=True),
    Column("registered_at", BigInteger, nullable=False),
)

locations = Table(
    "locations",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("display_name", String(100), nullable=False),
    # None: every model.
    Column("models", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
)

hubs = Table(
    "hubs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("subscription_id", ForeignKey("subscriptions.id"), nullable=False),
    Column("name", String(64), nullable=False, unique=True),
    Column("resource_group", String(90), nullable=False),
    Column("location", ForeignKey("locations.name"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

connections = Table(
    "connections",
    metadata,
    Column("hub_id", ForeignKey("hubs.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("category", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("hub_id", ForeignKey("hubs.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "hub_id"),
)

principals = Table(
    "principals",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("name", String(64), nullable=False, unique=True),
    # Who it is in an identity provider's tokens, and whose; without an issuer, of whichever is trusted.
    Column("subject", String(255)),
    Column("issuer", String(255)),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("subject", "issuer"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("principal_id", ForeignKey("principals.id"), nullable=False),
    Column("role", String(60), nullable=False),
    Column("subscription_id", ForeignKey("subscriptions.id"), nullable=False),
    # Without a project it holds for the hub, without a hub for the subscription.
    Column("hub_id", ForeignKey("hubs.id")),
    Column("project_id", ForeignKey("projects.id")),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "principal_id"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("hint", String(40), nullable=False),
    # SHA-256 of the secret: found by one index look-up, and useless to whoever reads the table.
    Column("digest", String(64), nullable=False, unique=True),
    Column("role", String(60)),
    Column("level", String(20), nullable=False),
    Column("permissions", JSON(none_as_null=True)),
    Column("principal_id", ForeignKey("principals.id")),
    Column("rotated_from", String(40), unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Index(None, "project_id"),
)

files = Table(
    "files",
    metadata,
    # Orders a listing: two files of one second keep their order.
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("status", String(20), nullable=False),
    Column("status_details", Text),
    Column("rows", BigInteger),
    Column("format", String(40)),
    Column("report", JSON),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Index(None, "project_id", "position"),
    Index(None, "status"),
    Index(None, "sha256"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("training_file", String(40), nullable=False),
    Column("validation_file", String(40)),
    Column("suffix", String(64)),
    Column("seed", BigInteger, nullable=False),
    Column("status", String(20), nullable=False),
    Column("method", String(20), nullable=False),
    Column("options", JSON, nullable=False),
    Column("resolved", JSON, nullable=False),
    Column("metadata", JSON),
    Column("integrations", JSON),
    Column("data", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("estimated_finish", BigInteger),
    Column("fine_tuned_model", Text),
    Column("result_files", JSON, nullable=False),
    Column("trained_tokens", BigInteger),
    Column("error", JSON),
    Column("worker_id", String(120)),
    Column("lease_epoch", Integer, nullable=False),
    Column("lease_until", Float, nullable=False),
    Index(None, "project_id", "position"),
    # The queue: a claim reads the oldest abandoned job, each project's oldest that waits, and who was served when.
    Index(None, "status", "position"),
    Index(None, "project_id", "status", "position"),
    Index(None, "project_id", "started_at"),
)

events = Table(
    "events",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    # Names the fact: a run that was killed and goes on tells some facts twice, and the first one stays.
    Column("key", String(80), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("level", String(10), nullable=False),
    Column("type", String(20), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    UniqueConstraint("job_id", "key"),
    Index(None, "job_id", "position"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("job_id", "step"),
)

models = Table(
    "models",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("base_model", Text, nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("step", Integer),
    Column("manifest", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "project_id", "position"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("status", String(20), nullable=False),
    Column("status_details", Text),
    Column("sku", JSON, nullable=False),
    Column("policy", String(64)),
    Column("engine", String(40), nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("idle_seconds", Integer),
    Column("revision", String(40), nullable=False),
    Column("update", JSON(none_as_null=True)),
    Column("certificate", JSON(none_as_null=True)),
    Column("parity_override", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # Hosting was charged up to here; None before it answered first.
    Column("charged_until", BigInteger),
    UniqueConstraint("project_id", "name"),
    Index(None, "project_id", "model"),
    Index(None, "status"),
)

records = Table(
    "records",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("kind", String(20), nullable=False),
    # What it belongs to; empty where it stands alone.
    Column("owner", String(255), nullable=False),
    Column("status", String(20), nullable=False),
    Column("metadata", JSON),
    Column("body", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Index(None, "project_id", "kind", "owner", "position"),
    Index(None, "kind", "status"),
    Index(None, "expires_at"),
)

replays = Table(
    "replays",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("key", String(300), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index(None, "expires_at"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("description", Text, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("project_id", "name"),
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("dataset_id", ForeignKey("datasets.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("file_id", String(40), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

lineage = Table(
    "lineage",
    metadata,
    # No foreign keys: where a file came from is worth knowing after either was deleted.
    Column("file_id", String(40), primary_key=True),
    Column("origin", String(20), nullable=False),
    Column("parent_file_id", String(40), nullable=False),
    Column("record", JSON, nullable=False),
)

traffic = Table(
    "traffic",
    metadata,
    # No foreign keys: what was used is worth knowing after it is gone.
    Column("project_id", String(40), primary_key=True),
    # A deployment or a model.
    Column("name", String(255), primary_key=True),
    Column("began_at", BigInteger, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("tally", JSON, nullable=False),
    Index(None, "began_at"),
)

audit = Table(
    "audit",
    metadata,
    # No foreign keys: what was done stays known after the thing and its project were deleted.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("created_at", BigInteger, nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("principal_id", String(40)),
    Column("project_id", String(40)),
    Column("action", String(60), nullable=False),
    Column("target", Text, nullable=False),
    # Text, not JSON: it is hashed as it stands.
    Column("details", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "project_id", "number"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

prices = Table(
    "prices",
    metadata,
    Column("model", String(100), primary_key=True),
    # Nano-units of the currency, for a million tokens; hosting for an hour.
    Column("training", BigInteger, nullable=False),
    Column("hosting", BigInteger, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    # No foreign keys: what was spent stays known after the project was deleted.
    Column("project_id", String(40), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("meter", String(20), primary_key=True),
    Column("source", String(255), primary_key=True),
    Column("model", String(255), primary_key=True),
    Column("unit_price", BigInteger, primary_key=True, autoincrement=False),
    Column("quantity", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Index(None, "project_id", "source"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("limit", BigInteger, nullable=False),
    Column("period", String(20), nullable=False),
    Column("warn_at", Float, nullable=False),
    Column("warned_at", BigInteger),
    Column("exhausted_at", BigInteger),
)

quotas = Table(
    "quotas",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("name", String(40), primary_key=True),
    Column("limit", BigInteger, nullable=False),
)

drops = Table(
    "drops",
    metadata,
    # A row for bytes that were found to be nobody's: until they are gone, and for a day after.
    Column("sha256", String(64), primary_key=True),
    # Another one each time.
    Column("mark", String(40), nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
