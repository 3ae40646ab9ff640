"""The state directory: databases, keys, locks, logs, and the services of plays. It is its user's only."""

from control_api.kit.files import close_to_others
from control_api.settings import DASHBOARD_KEY_FILE, LOCAL_KEY_FILE, SETUP_LINK_FILE, Settings

# Everything that Muster makes there; what else lies there is not ours. Folders before what is in them.
_OURS = (
    *("logs", "services", "runs", "logs/*", "services/*"),
    *("control.db*", "telemetry.db*", "keys.json*", ".*.part", "up.lock"),
    *(LOCAL_KEY_FILE, DASHBOARD_KEY_FILE, SETUP_LINK_FILE),
)


def make_state_dir(settings: Settings) -> None:
    """Make the directory, or close to others what of it an older version or a careless umask has left open."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    close_to_others(settings.state_dir, _OURS)
