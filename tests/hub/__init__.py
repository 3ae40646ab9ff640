"""A local model hub that speaks the Hugging Face protocol, with faults on demand.

`python -m tests.hub ROOT --port 18200` serves `ROOT/<namespace>/<name>/<files>`: each directory
is one repository with one commit, reachable as `main` and by its commit id.
"""

from tests.hub.server import Faults, Hub, Served, commit_of

__all__ = ["Faults", "Hub", "Served", "commit_of"]
