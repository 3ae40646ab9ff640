"""The wire schemas that callers of the client handle, under one name."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from control_api.access.models import (
    ApiKeyCreate,
    ApiKeyCreated,
    ApiKeyOut,
    InferenceTokenOut,
    Scope,
    SessionOut,
    UserOut,
)
from control_api.automation.models import JobCreate, JobEventOut, JobOut, JobStatus
from control_api.catalogue.models import ModelOut, RegisterModelRequest, SupportedModel
from control_api.distribution.models import DistributeOut, DistributeRequest, PullRequest, TaskOut, TaskStatus
from control_api.fleet.models import Admission, HostState, ModelState, NodeState
from control_api.fleet.schemas import (
    CredentialOut,
    HostCreate,
    HostKeyOut,
    HostOut,
    HostPatch,
    NodeModelOut,
    NodeOut,
)
from control_api.kit.wire import Out, Page

__all__ = [
    "Admission",
    "ApiKeyCreate",
    "ApiKeyCreated",
    "ApiKeyOut",
    "CredentialOut",
    "DistributeOut",
    "DistributeRequest",
    "HostCreate",
    "HostKeyOut",
    "HostOut",
    "HostPatch",
    "HostState",
    "Hub",
    "HubFacts",
    "HubModel",
    "HubNode",
    "InferenceTokenOut",
    "JobCreate",
    "JobEventOut",
    "JobOut",
    "JobStatus",
    "ModelOut",
    "ModelState",
    "NodeModelOut",
    "NodeOut",
    "NodeState",
    "Page",
    "PullRequest",
    "RegisterModelRequest",
    "Scope",
    "SessionOut",
    "TaskOut",
    "TaskStatus",
    "UserOut",
]


class HubNode(Out):
    """Where a model of the hub list is, or is going to."""

    node_id: str
    name: str
    state: ModelState
    progress: float


class HubFacts(Out):
    """What the hub says about a model's repository."""

    downloads: int | None = None
    likes: int | None = None
    fetched_at: datetime | None = None


class HubModel(SupportedModel):
    """An entry of ``GET /v0/models/hub``."""

    status: Literal["available", "downloading", "downloaded"]
    lifecycle_status: Literal["available", "pending", "registered", "ready"]
    nodes: list[HubNode] = Field(default_factory=list)
    hub: HubFacts | None = None


class Hub(Out):
    """``GET /v0/models/hub``."""

    models: list[HubModel]
    hub_reachable: bool = True
