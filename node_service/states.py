"""The states of a model on a node, as reported to the control API."""

from enum import StrEnum


class ModelState(StrEnum):
    """`absent → queued → downloading → verifying → installed → loading → ready`, and the others.

    `absent` is never reported: a model that is not here is not in the report.
    """

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    INSTALLED = "installed"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"
    ORPHANED = "orphaned"
