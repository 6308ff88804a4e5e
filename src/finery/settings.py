"""Every setting of the machine in one table; knows no defaults of other modules and starts nothing."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLES = (
    ("home", "FINERY_HOME", "Where everything is kept (default ~/.finery)."),
    ("models", "FINERY_MODELS", "Where base models are kept; homes may share it (default models/ in the home)."),
    ("host", "FINERY_HOST", "Address to listen on (default 127.0.0.1)."),
    ("port", "FINERY_PORT", "Port to listen on (default 8000)."),
    ("database_url", "FINERY_DATABASE_URL", "postgresql://user:password@host/database (default SQLite in the home)."),
    ("blob_url", "FINERY_BLOB_URL", "Object store (file:///folder, s3://bucket, az://container; default in the home)."),
    ("blob_seconds", "FINERY_BLOB_SECONDS", "How long an object store on the network may be silent (default 20)."),
    ("worker_key", "FINERY_WORKER_KEY", "What workers show (default worker.key in the home); replicas share one."),
    ("lease_seconds", "FINERY_LEASE_SECONDS", "How long a silent worker keeps its job (default 30)."),
    ("idle_seconds", "FINERY_IDLE_SECONDS", "Idle time after which an inference server is stopped (default 900)."),
    ("inference_slots", "FINERY_INFERENCE_SLOTS", "Answers written at once by one inference server (default 8)."),
    ("inference_context", "FINERY_INFERENCE_CONTEXT", "Tokens of context per answer (default 4096)."),
    ("inference_gpu_share", "FINERY_INFERENCE_GPU_SHARE", "Part of a GPU's memory that one vLLM takes (default 0.9)."),
    (
        "inference_adapter_rank",
        "FINERY_INFERENCE_ADAPTER_RANK",
        "Largest rank of adapters on vLLM, which keeps room for it (default 64).",
    ),
    (
        "vllm_python",
        "FINERY_VLLM_PYTHON",
        "Python that has finery[vllm], for the engine vllm (default: the server's).",
    ),
    ("default_model", "FINERY_DEFAULT_MODEL", "Model of responses that name none (default: they must name one)."),
    ("mlflow_url", "FINERY_MLFLOW_URL", "MLflow server that jobs with `integrations` tell of (default none)."),
    ("mlflow_token", "FINERY_MLFLOW_TOKEN", "Its bearer token, if it wants one."),
    ("tls_names", "FINERY_TLS_NAMES", "Further names for the server's own certificate, with commas between."),
    ("inference_queue", "FINERY_INFERENCE_QUEUE", "Answers that may wait for one deployment (default 256)."),
    (
        "capacity_quota",
        "FINERY_CAPACITY_QUOTA",
        "A project's deployments together, thousand tokens a minute (1000000).",
    ),
    ("parity_prompts", "FINERY_PARITY_PROMPTS", "Prompts of a tuned model's parity certificate; 0: none (default 4)."),
    ("log_format", "FINERY_LOG_FORMAT", "Log lines as text or json (default text)."),
    ("currency", "FINERY_CURRENCY", "Currency of prices and budgets (default USD)."),
    ("filter_seconds", "FINERY_FILTER_SECONDS", "How long the content filter may take for a text (default 10)."),
    (
        "guard_url",
        "FINERY_GUARD_URL",
        "Guard model on the network: an OpenAI API, as http://host:8000/v1 (default none).",
    ),
    ("guard_key", "FINERY_GUARD_KEY", "Its key, if it wants one."),
    (
        "training_data_threshold",
        "FINERY_TRAINING_DATA_THRESHOLD",
        "Severity at which a row of training data is refused: Off, Low, Medium or High (default High).",
    ),
    (
        "defect_rate_limit",
        "FINERY_DEFECT_RATE_LIMIT",
        "Share of harmful answers to harmful prompts that a tuned model may give; 1 asks none (default 0.25).",
    ),
    ("private_webhooks", "FINERY_PRIVATE_WEBHOOKS", "1 lets webhooks lead to private addresses (default 0)."),
    ("oidc_issuer", "FINERY_OIDC_ISSUER", "Identity provider whose tokens are taken beside keys (default none)."),
    ("oidc_audience", "FINERY_OIDC_AUDIENCE", "Whom its tokens must be for; several with commas between."),
    ("oidc_client_id", "FINERY_OIDC_CLIENT_ID", "The Studio as the provider knows it: one can sign in there."),
    ("oidc_client_secret", "FINERY_OIDC_CLIENT_SECRET", "Its secret, if the provider gave it one (default none)."),
    ("oidc_scope", "FINERY_OIDC_SCOPE", "Scopes asked for at sign-in (default: openid profile)."),
    (
        "oidc_redirect_uri",
        "FINERY_OIDC_REDIRECT_URI",
        "Where the provider sends browsers back to (default: /studio/sign-in/callback of the address they used).",
    ),
)
"""Field, environment variable, help: one list for code, documentation and tests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of one control plane."""

    home: Path
    models: Path | None = None
    """None: `<home>/models`."""
    host: str = "127.0.0.1"
    port: int = 8000
    database_url: str = ""
    """Empty: `sqlite:///<home>/finery.db`. Several control planes may share one PostgreSQL: docs/operations.md."""
    blob_url: str = ""
    """Empty: `<home>/blobs`. Keys and endpoints come from AWS's and Azure's own variables: docs/operations.md."""
    blob_seconds: float = 20.0
    worker_key: str = ""
    """Empty: that in `<home>/worker.key`."""
    lease_seconds: float = 30.0
    idle_seconds: float = 900.0
    inference_slots: int = 8
    inference_context: int = 4096
    inference_gpu_share: float = 0.9
    inference_adapter_rank: int = 64
    vllm_python: str = ""
    """Empty: the one that runs this."""
    default_model: str = ""
    """Deployment or model that answers responses which name none; empty: a 400."""
    mlflow_url: str = ""
    """Empty: jobs' integrations are passed over, with a warning."""
    mlflow_token: str = ""
    inference_queue: int = 256
    capacity_quota: int = 1_000_000
    """Of all deployments of one project together."""
    parity_prompts: int = 4
    """0: tuned models are deployed without a certificate."""
    log_format: str = "text"
    currency: str = "USD"
    """Of prices and budgets: a word, nothing is converted."""
    filter_seconds: float = 10.0
    guard_url: str = ""
    """Not for whoever writes policies to choose: prompts and the key go there."""
    guard_key: str = ""
    training_data_threshold: str = "High"
    defect_rate_limit: float = 0.25
    private_webhooks: int = 0
    """1: webhooks may lead to private addresses; otherwise a caller could reach what only this machine can."""
    oidc_issuer: str = ""
    """As its tokens say it in `iss`. Empty: API keys alone are taken."""
    oidc_audience: str = ""
    """What tokens say in `aud` that are meant for this server; the client's id, below, is always among them."""
    oidc_client_id: str = ""
    """Empty: the Studio is entered with keys alone."""
    oidc_client_secret: str = ""
    """Empty: a public client."""
    oidc_scope: str = "openid profile"
    oidc_redirect_uri: str = ""
    tls_self_signed: bool = False
    """Speak TLS with a certificate of this machine's own authority, which lies in `<home>/tls`."""
    tls_names: str = ""
    insecure: bool = False
    """Listen beyond this machine without TLS."""
    worker: bool = True
    """Supervise one local worker."""

    @staticmethod
    def from_environment(**given: Any) -> "Settings":
        """Settings from arguments first, the environment second, defaults last.

        Raises:
            ValueError: a variable that should be a number isn't, naming it.
        """
        values = {name: _read(name, variable) for name, variable, _ in VARIABLES if os.environ.get(variable)}
        values |= {name: value for name, value in given.items() if value is not None}
        values["home"] = Path(values.get("home") or Path.home() / ".finery").expanduser().resolve()
        if values.get("models"):
            values["models"] = Path(values["models"]).expanduser().resolve()
        threshold = str(values.get("training_data_threshold", "High")).capitalize()
        if threshold not in ("Off", "Low", "Medium", "High"):
            raise ValueError(f"FINERY_TRAINING_DATA_THRESHOLD is {threshold!r}; it must be Off, Low, Medium or High.")
        return Settings(**values)

    @property
    def models_folder(self) -> Path:
        """Base models, one folder each."""
        return self.models or self.home / "models"

    @property
    def database(self) -> str:
        """The SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.home / 'finery.db'}"


_NUMBERS: dict[str, type[int] | type[float]] = {
    "port": int,
    "blob_seconds": float,
    "lease_seconds": float,
    "idle_seconds": float,
    "inference_slots": int,
    "inference_context": int,
    "inference_gpu_share": float,
    "inference_adapter_rank": int,
    "inference_queue": int,
    "capacity_quota": int,
    "parity_prompts": int,
    "filter_seconds": float,
    "defect_rate_limit": float,
    "private_webhooks": int,
}


def _read(name: str, variable: str) -> Any:
    text = os.environ[variable]
    kind = _NUMBERS.get(name)
    if kind is None:
        return text
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{variable} is {text!r}; it must be a number.") from None
