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
from control_api.access.preferences import PreferenceOut, PreferencesPatch, SettingChangeOut
from control_api.alerts.models import AlertOut, Severity
from control_api.automation.models import HostStatus, JobStatus
from control_api.automation.schemas import (
    ChangeOut,
    HostDriftOut,
    JobCreate,
    JobDetail,
    JobEventOut,
    JobEventsOut,
    JobOut,
    PlanOut,
)
from control_api.catalogue.models import HubModelOut, HubNodeOut, HubOut, ModelOut
from control_api.catalogue.schemas import ModelPatch, RegisterModelRequest
from control_api.distribution.schemas import (
    AssignmentOut,
    DistributeOut,
    DistributeRequest,
    PlacementOut,
    PlacementRequest,
    PlannedNode,
    PlannedRoom,
    PullRequest,
    TaskOut,
)
from control_api.distribution.states import TaskStatus
from control_api.fleet.schemas import (
    CredentialOut,
    Gpu,
    Hardware,
    HostCreate,
    HostKeyOut,
    HostOut,
    HostPatch,
    InventoryOut,
    NodeModelOut,
    NodeOut,
)
from control_api.fleet.states import Admission, HostState, ModelState, NodeState
from control_api.kit.wire import Page
from control_api.providers.models import ProviderName, ProviderOut, ProviderPut

__all__ = [
    "Admission",
    "AlertOut",
    "ApiKeyCreate",
    "ApiKeyCreated",
    "ApiKeyOut",
    "AssignmentOut",
    "ChangeOut",
    "CredentialOut",
    "DistributeOut",
    "DistributeRequest",
    "Gpu",
    "Hardware",
    "HostCreate",
    "HostDriftOut",
    "HostKeyOut",
    "HostOut",
    "HostPatch",
    "HostState",
    "HostStatus",
    "HubModelOut",
    "HubNodeOut",
    "HubOut",
    "InferenceTokenOut",
    "InventoryOut",
    "JobCreate",
    "JobDetail",
    "JobEventOut",
    "JobEventsOut",
    "JobOut",
    "JobStatus",
    "ModelOut",
    "ModelPatch",
    "ModelState",
    "NodeModelOut",
    "NodeOut",
    "NodeState",
    "Page",
    "PlacementOut",
    "PlacementRequest",
    "PlanOut",
    "PlannedNode",
    "PlannedRoom",
    "PreferenceOut",
    "PreferencesPatch",
    "ProviderName",
    "ProviderOut",
    "ProviderPut",
    "PullRequest",
    "RegisterModelRequest",
    "Scope",
    "SessionOut",
    "SettingChangeOut",
    "Severity",
    "TaskOut",
    "TaskStatus",
    "UserOut",
]
