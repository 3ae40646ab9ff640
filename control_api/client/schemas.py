"""The wire schemas that callers of the client handle, under one name."""

from control_api.access.models import (
    ApiKeyCreate,
    ApiKeyCreated,
    ApiKeyOut,
    InferenceTokenOut,
    Scope,
    SessionOut,
    UserOut,
)
from control_api.automation.models import JobStatus
from control_api.automation.schemas import ChangeOut, JobCreate, JobDetail, JobEventOut, JobEventsOut, JobOut
from control_api.catalogue.models import HubModelOut, HubNodeOut, HubOut, ModelOut, RegisterModelRequest
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
from control_api.kit.wire import Page

__all__ = [
    "Admission",
    "ApiKeyCreate",
    "ApiKeyCreated",
    "ApiKeyOut",
    "ChangeOut",
    "CredentialOut",
    "DistributeOut",
    "DistributeRequest",
    "HostCreate",
    "HostKeyOut",
    "HostOut",
    "HostPatch",
    "HostState",
    "HubModelOut",
    "HubNodeOut",
    "HubOut",
    "InferenceTokenOut",
    "JobCreate",
    "JobDetail",
    "JobEventOut",
    "JobEventsOut",
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
