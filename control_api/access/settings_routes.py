"""``/v0/settings``: what may be changed while everything runs."""

from fastapi import APIRouter, Request

from control_api.access import repository
from control_api.access.preferences import PreferenceService
from control_api.access.principal import Admin, Reader
from control_api.access.schemas import PreferenceOut, PreferencesPatch, SettingChangeOut
from control_api.kit.http import ReadSession, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["settings"])


def _preferences(request: Request) -> PreferenceService:
    service: PreferenceService = request.state.preferences
    return service


@router.get("/settings")
async def list_settings(request: Request, session: ReadSession, _: Reader) -> Page[PreferenceOut]:
    """List the settings that may be changed at run time, with who changed them last."""
    return Page(items=await _preferences(request).out(session))


@router.patch("/settings")
async def change_settings(
    request: Request, wanted: PreferencesPatch, session: WriteSession, principal: Admin
) -> Page[PreferenceOut]:
    """Change settings at once, for all processes; null goes back to the default."""
    await _preferences(request).change(session, wanted, principal.label)
    return Page(items=await _preferences(request).out(session))


@router.get("/settings/changes")
async def list_changes(session: ReadSession, _: Reader, cursor: Cursor = None, limit: Limit = 100) -> Page[SettingChangeOut]:
    """List who changed which setting to what, newest first."""
    rows, following = await repository.page_setting_changes(session, cursor, limit)
    return Page(items=[SettingChangeOut.model_validate(row) for row in rows], next_cursor=following)
