"""All settings of the control plane: one frozen object, made once by the CLI and passed down.

Every field is read from ``MUSTER_<FIELD>``; ``muster doctor`` prints what is in force.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, HttpUrl, SecretStr, TypeAdapter, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1 << 30


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
    site_dir: Path | None = Field(default=None, description="Site data for Ansible: group_vars/, host_vars/.")

    database_url: str | None = Field(default=None, description="postgresql+psycopg://…; unset: SQLite in the state directory.")
    routing_key: SecretStr | None = Field(default=None, description="Encrypts what routers must read: inference keys of nodes.")
    credentials_key: SecretStr | None = Field(default=None, description="Encrypts SSH keys and become passwords.")

    api_host: str = "127.0.0.1"
    api_port: int = 8080
    api_url: str = Field(default="", description="How nodes reach the control API; default http://<api_host>:<api_port>.")
    router_host: str = "127.0.0.1"
    router_port: int = 8000
    router_url: str = Field(default="", description="How clients reach the router; default http://<router_host>:<router_port>.")
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = 8081
    dashboard_url: str = Field(default="", description="How browsers reach the dashboard.")
    bootstrap_api_key: SecretStr | None = Field(default=None, description="An admin key that exists from the first start.")
    dashboard_secure_cookies: bool = Field(default=False, description="Set the Secure flag; true behind TLS.")

    hub_endpoint: str = Field(
        default="https://huggingface.co",
        validation_alias=AliasChoices("MUSTER_HUB_ENDPOINT", "HF_ENDPOINT"),
        description="Model hub; HF_ENDPOINT is read too.",
    )
    hub_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("MUSTER_HUB_TOKEN", "HF_TOKEN"),
        description="Token for gated repositories; HF_TOKEN is read too.",
    )
    hub_timeout_s: float = 5.0

    heartbeat_interval_s: int = 5
    offline_after_s: int = 30
    listening_gap_s: int = 15
    ticket_ttl_s: int = 900
    auto_distribution: Literal["registered", "best-fit", "all", "off"] = "registered"
    max_concurrent_downloads: int = 10
    disk_reserve_bytes: int = GIB
    node_networks: list[str] = Field(
        default_factory=list, description="Networks that nodes may live in beside their host's address."
    )

    run_dir: Path | None = Field(default=None, description="Job run directories; default: a directory on tmpfs.")
    job_timeout_s: int = 7200
    job_cancel_grace_s: float = 10.0
    lease_renew_s: float = 10.0
    lease_term_s: float = 30.0
    lease_kill_s: float = 45.0
    lease_reusable_s: float = 75.0
    keep_events_days: int = 30

    router_body_limit_bytes: int = 100_000_000
    router_queue_size: int = 256
    router_queue_deadline_s: float = 30.0
    router_connect_timeout_s: float = 2.0
    router_first_byte_timeout_s: float = 300.0
    router_poll_interval_s: float = 0.4

    log_format: Literal["json", "console"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("state_dir", "cache_dir", "project_dir", "site_dir", "run_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else value

    @field_validator("api_url", "router_url", "dashboard_url", "hub_endpoint")
    @classmethod
    def _url(cls, value: str) -> str:
        if value:
            TypeAdapter(HttpUrl).validate_python(value)
        return value.rstrip("/")

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
