"""All settings of the control plane: one frozen object, made once by the CLI and passed down.

Every field is read from ``MUSTER_<FIELD>``, or from a file of that name in the directory ``MUSTER_SECRETS_DIR``, which keeps
secrets out of the environment. ``muster doctor`` prints what is in force.
"""

import ipaddress
import os
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, HttpUrl, SecretStr, TypeAdapter, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from control_api.errors import StartupError

GIB = 1 << 30

# What the first start of a control API leaves in its state directory for this user's own processes and for the first admin.
LOCAL_KEY_FILE = "local_api_key"
DASHBOARD_KEY_FILE = "dashboard_api_key"
SETUP_LINK_FILE = "setup_link"


def _default_state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "muster"


def _default_cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster"


class Settings(BaseSettings):
    """Settings of every process of the control plane. Durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="MUSTER_", frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    state_dir: Path = Field(default_factory=_default_state_dir, description="Databases, keys, run directories and services.")
    cache_dir: Path = Field(default_factory=_default_cache_dir, description="What can be made again: the wheelhouse.")
    project_dir: Path = Field(default=Path(__file__).parents[1], description="Where playbooks/, roles/ and inventory/ are.")
    secrets_dir: Path | None = Field(
        default=None,
        description="Where settings are files, named as the variables are: for secrets. Only from the environment.",
    )
    site_dir: Path | None = Field(default=None, description="Site data for Ansible: group_vars/, host_vars/.")

    database_url: str | None = Field(default=None, description="postgresql+psycopg://…; unset: SQLite in the state directory.")
    routing_key: SecretStr | None = Field(default=None, description="Encrypts what routers must read: inference keys of nodes.")
    credentials_key: SecretStr | None = Field(default=None, description="Encrypts SSH keys and become passwords.")

    api_host: str = Field(default="127.0.0.1", description="Where the control API listens.")
    api_port: int = Field(default=8080, description="Its port.")
    api_url: str = Field(default="", description="How nodes reach the control API; default http://<api_host>:<api_port>.")
    router_host: str = Field(default="127.0.0.1", description="Where the router listens.")
    router_port: int = Field(default=8000, description="Its port.")
    router_reuse_port: bool = Field(
        default=False, description="Let several routers of this machine share the port; the kernel divides clients among them."
    )
    router_url: str = Field(default="", description="How clients reach the router; default http://<router_host>:<router_port>.")
    dashboard_host: str = Field(default="127.0.0.1", description="Where the dashboard listens.")
    dashboard_port: int = Field(default=8081, description="Its port.")
    dashboard_url: str = Field(default="", description="How browsers reach the dashboard.")
    bootstrap_api_key: SecretStr | None = Field(default=None, description="An admin key that exists from the first start.")
    dashboard_api_key: SecretStr | None = Field(
        default=None,
        description="A key of scope read that exists from the first start, for what all pages of the dashboard share.",
    )
    dashboard_secure_cookies: bool = Field(default=False, description="Set the Secure flag; true behind TLS.")

    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="Networks of reverse proxies that are believed about who a client of API or dashboard is; a JSON list.",
    )

    hub_endpoint: str = Field(
        default="https://huggingface.co",
        validation_alias=AliasChoices("MUSTER_HUB_ENDPOINT", "HF_ENDPOINT"),
        description="Model hub; HF_ENDPOINT is read too.",
    )
    hub_mirror: str | None = Field(
        default=None, description="The site's mirror instead of the hub: a directory, or a URL in the hub's layout."
    )
    hub_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("MUSTER_HUB_TOKEN", "HF_TOKEN"),
        description="Token for gated repositories; HF_TOKEN is read too.",
    )
    hub_timeout_s: float = Field(default=5.0, description="For one answer of the hub about a model.")

    heartbeat_interval_s: int = Field(default=5, description="How often nodes report.")
    offline_after_s: int = Field(default=30, description="Silence after which a node is offline.")
    listening_gap_s: int = Field(default=15, description="A gap of listening after which silence is counted anew.")
    ticket_ttl_s: int = Field(default=900, description="How long an enrolment ticket is valid.")
    auto_distribution: Literal["registered", "best-fit", "all", "off"] = Field(
        default="registered", description="Which models go to which nodes by themselves."
    )
    max_concurrent_downloads: int = Field(default=10, description="Downloads at once across the fleet.")
    memory_reserve_bytes: int = Field(
        default=GIB // 2, ge=0, description="Memory that placement leaves free: per GPU, or of RAM."
    )
    disk_reserve_bytes: int = Field(default=GIB, ge=0, description="Disk of nodes that placement leaves free.")
    node_networks: list[str] = Field(
        default_factory=list,
        description="Networks that nodes without a host of ours may live in; a host's node is at the host's address.",
    )

    run_dir: Path | None = Field(default=None, description="Job run directories; default: a directory on tmpfs.")
    job_timeout_s: int = Field(default=7200, description="How long a job may run unless it says otherwise.")
    job_cancel_grace_s: float = Field(default=10.0, description="Between asking a run to end and killing it.")
    keep_events_days: int = Field(default=30, ge=1, description="How long the output of jobs is kept.")
    keep_jobs_days: int = Field(default=365, ge=1, description="How long ended jobs are kept.")
    drift_interval_s: int = Field(default=0, ge=0, description="How often all hosts are checked for drift; 0: never.")
    lease_renew_s: float = Field(default=10.0, description="How often a supervisor renews its lease.")
    lease_term_s: float = Field(default=30.0, description="Without renewal for so long it ends its run.")
    lease_kill_s: float = Field(default=45.0, description="And after so long it kills it.")
    lease_reusable_s: float = Field(default=75.0, description="When the locks of a lost run may be taken.")

    router_body_limit_bytes: int = Field(default=100_000_000, description="Largest request.")
    router_body_timeout_s: float = Field(default=30.0, description="Longest silence of a client within its request.")
    router_queue_size: int = Field(default=256, description="Callers that may wait for a free slot, per model.")
    router_queue_deadline_s: float = Field(default=30.0, description="How long one of them may wait.")
    router_connect_timeout_s: float = Field(default=2.0, description="For a connection to a node.")
    router_first_byte_timeout_s: float = Field(default=300.0, description="Longest silence of a node before it answers.")
    router_stall_timeout_s: float = Field(default=60.0, description="Longest silence of a node within a stream.")
    router_cloud_timeout_s: float = Field(default=120.0, description="Longest silence of a cloud provider.")
    router_poll_interval_s: float = Field(default=0.4, description="Between two looks at the route table's revision.")

    router_history_content: bool = Field(default=False, description="Keep what was asked and answered for seven days.")
    router_cors_origins: list[str] = Field(default_factory=list, description="Origins whose pages may call; a JSON list.")

    log_format: Literal["json", "console"] = Field(default="console", description="Lines of JSON, or for people.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from, first come first served: arguments, environment, files."""
        secrets_dir = os.environ.get("MUSTER_SECRETS_DIR") or None
        if secrets_dir and not os.access(secrets_dir, os.R_OK | os.X_OK):
            raise StartupError(f"MUSTER_SECRETS_DIR: {secrets_dir} is no directory that can be read.", code="no_secrets")
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, secrets_dir=secrets_dir)

    @field_validator("state_dir", "cache_dir", "project_dir", "site_dir", "run_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return [str(ipaddress.ip_network(network, strict=False)) for network in value]

    @field_validator("hub_mirror")
    @classmethod
    def _directory_or_url(cls, value: str | None) -> str | None:
        return cls._url(value) if value and "://" in value else value

    @field_validator("api_url", "router_url", "dashboard_url", "hub_endpoint")
    @classmethod
    def _url(cls, value: str) -> str:
        if value:
            TypeAdapter(HttpUrl).validate_python(value)
        return value.rstrip("/")

    @property
    def hub_mirror_dir(self) -> Path | None:
        """The mirror, if it is a directory."""
        is_directory = self.hub_mirror and "://" not in self.hub_mirror
        return Path(self.hub_mirror).expanduser().absolute() if self.hub_mirror and is_directory else None

    @property
    def hub_url(self) -> str:
        """Where the hub, or the mirror in its place, answers."""
        return self.hub_mirror if self.hub_mirror and "://" in self.hub_mirror else self.hub_endpoint

    @property
    def control_url(self) -> str:
        """Database URL of the control store."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'control.db'}"

    @property
    def telemetry_url(self) -> str:
        """Database URL of the telemetry store; on PostgreSQL the same database."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'telemetry.db'}"

    @property
    def public_api_url(self) -> str:
        """URL of the control API as others reach it."""
        return self.api_url or f"http://{self.api_host}:{self.api_port}"

    @property
    def public_router_url(self) -> str:
        """URL of the router as others reach it."""
        return self.router_url or f"http://{self.router_host}:{self.router_port}"

    @property
    def public_dashboard_url(self) -> str:
        """URL of the dashboard as browsers reach it."""
        return self.dashboard_url or f"http://{self.dashboard_host}:{self.dashboard_port}"
