"""The node's configuration: one JSON file, each key also from `MUSTER_NODE_<KEY>`."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from node_service.engine.definitions import BUILT_IN, EngineDefinition
from node_service.errors import ConfigError
from node_service.fields import HttpUrl, Label

__all__ = ["DEFAULT_CONFIG", "Settings", "load_settings"]

DEFAULT_CONFIG = Path("/etc/muster-node/node.json")


class Settings(BaseSettings):
    """Everything that can be set about a node; made once at start and passed down."""

    model_config = SettingsConfigDict(env_prefix="MUSTER_NODE_", env_ignore_empty=True, frozen=True, extra="forbid")

    name: Label = Field(description="Host name shown in the fleet.")
    api_url: HttpUrl = Field(description="The control API, e.g. `http://control-api:8080`.")
    base_url: HttpUrl = Field(description="How the router and the API reach this node, e.g. `http://10.77.0.11:8090`.")
    listen_host: str = Field(default="0.0.0.0", description="Address the service listens on.")
    listen_port: int = Field(default=8090, ge=1, le=65535, description="Port it listens on.")
    store_dir: Path = Field(default=Path("/var/lib/muster-node/models"), description="Where model files are kept.")
    state_dir: Path = Field(
        default=Path("/var/lib/muster-node/state"),
        description="Identity (node id, token, inference key) and the last manifest; mode 0700.",
    )
    enrolment_ticket_file: Path | None = Field(
        default=None,
        description="One-use ticket or enrolment token, read while the node is not registered and deleted after use.",
    )
    tags: tuple[Label, ...] = Field(
        default=(),
        max_length=64,
        description="Tags proposed at registration. They count where an admin or a job got the ticket.",
    )
    require_gpu: bool = Field(default=True, description="Report an error, and load no model, while no GPU is visible.")
    allow_cpu: bool = Field(default=False, description="Models may run on the CPU.")
    engines: dict[Label, EngineDefinition] = Field(
        default={}, description="Engines of this host beside the built-in ones, by name; see below."
    )
    engine: Label = Field(default="xllamacpp", description="Engine for models whose manifest names none.")
    engine_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of each engine; default: one per core that this service may use."
    )
    context: int = Field(
        default=4096,
        ge=256,
        description="Tokens of context for each request, unless the manifest says otherwise.",
    )
    slots: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Requests that one model answers at the same time, unless the manifest says otherwise.",
    )
    hub_endpoint: HttpUrl | None = Field(default=None, description="Model hub instead of the public one (`HF_ENDPOINT`).")
    hub_token_file: Path | None = Field(default=None, description="File with the hub's token (`HF_TOKEN`), for gated models.")
    source_stall_s: float = Field(default=30, gt=0, description="Seconds without a byte after which a source is left.")
    verify_interval_s: float = Field(
        default=604800, ge=0, description="Seconds after which an installed file is hashed again; 0: never."
    )
    disk_reserve_bytes: int = Field(default=2**30, ge=0, description="Bytes of disk that downloads leave free.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level that is logged.")
    drain_deadline_s: float = Field(default=120, ge=0, description="Seconds that SIGTERM waits for requests in flight.")
    ca_bundle: Path | None = Field(default=None, description="CA certificates to trust instead of the system's.")

    @field_validator("engines")
    @classmethod
    def _own_names(cls, engines: dict[str, EngineDefinition]) -> dict[str, EngineDefinition]:
        if taken := BUILT_IN.keys() & engines.keys():
            raise ValueError(f"{', '.join(sorted(taken))} is built in; give yours another name")
        return engines

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str, info: ValidationInfo) -> str:
        known = [*BUILT_IN, *info.data.get("engines", {})]
        if engine not in known:
            raise ValueError(f"unknown engine {engine!r}; known are {', '.join(known)}")
        return engine

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, and read nothing else."""
        return env_settings, init_settings


def load_settings(path: Path | None) -> Settings:
    """Read the configuration from `path` and the environment.

    Parameters:
        path: a JSON object, or None to use the environment alone.

    Raises:
        ConfigError: the file cannot be read, holds an unknown key, or a value is wrong.
    """
    values = {} if path is None else _read_object(path)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError([_describe(problem) for problem in error.errors()]) from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError([f"{path}: not JSON: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: must be a JSON object"])
    return values


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "configuration"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if problem["type"] == "missing":
        return f"{key}: required"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
