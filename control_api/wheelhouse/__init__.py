"""The wheelhouse: what a host needs to install Muster without compiler, venv package or internet.

For each Python and architecture there is one archive, the *bundle*: the wheels, `requirements.txt` with their
hashes, the static `uv` binary that installs them, and, as its last member, `SHA256SUMS`. `manifest.json` beside
the bundles is what the roles read. The node service and the control plane have a wheelhouse each.
"""

from control_api.wheelhouse.build import build_wheelhouse
from control_api.wheelhouse.manifest import Bundle, Wheelhouse
from control_api.wheelhouse.product import CONTROL_PLANE, NODE, PYTHONS, Product
from control_api.wheelhouse.target import ARCHITECTURES

__all__ = ["ARCHITECTURES", "CONTROL_PLANE", "NODE", "PYTHONS", "Bundle", "Product", "Wheelhouse", "build_wheelhouse"]
