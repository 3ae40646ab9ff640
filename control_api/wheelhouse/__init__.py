"""The wheelhouse: what a host needs to install the node service without compiler, venv package or internet.

For each Python and architecture there is one archive, the *bundle*: the wheels, `requirements.txt` with their
hashes, the static `uv` binary that installs them, and, as its last member, `SHA256SUMS`. `manifest.json` beside
the bundles is what the role `node_service` reads.
"""

from control_api.wheelhouse.build import build_wheelhouse
from control_api.wheelhouse.manifest import Bundle, Wheelhouse
from control_api.wheelhouse.target import ARCHITECTURES, PYTHONS

__all__ = ["ARCHITECTURES", "PYTHONS", "Bundle", "Wheelhouse", "build_wheelhouse"]
