# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin `muster_completion`, which runs on the controller."""

DOCUMENTATION = r"""
module: muster_completion
short_description: Get a real chat completion from one node, through the router
description:
  - Gets an inference token from the control API and sends one chat completion pinned to the node.
  - Fails on an empty answer, on an answer of another node, and when a GPU host serves from the CPU.
author: Muster
attributes:
  check_mode: {support: full, description: Sends nothing and says so.}
  diff_mode: {support: none, description: Changes nothing.}
options:
  host_id:
    description: Id of the host. Finds the node when O(node_id) is not given.
    type: str
  node_id:
    description: Id of the node.
    type: str
  model:
    description: Id of the model. Default is the first ready model of the node, one for embeddings only where there is no other.
    type: str
  prompt:
    description: What to ask.
    type: str
    default: Say hello.
  max_tokens:
    description: Length of the answer, in tokens.
    type: int
    default: 16
  allow_cpu:
    description: Accept an answer from the CPU of a host that has a GPU.
    type: bool
    default: false
  timeout_s:
    description: How long to wait for the answer, in seconds.
    type: int
    default: 120
  api_url:
    description: Address of the control API. Default E(MUSTER_API_URL), else the variable C(muster_api_url).
    type: str
  ca_bundle:
    description: Certificate authorities to trust on the controller. Default E(MUSTER_CA_BUNDLE).
    type: path
"""

EXAMPLES = r"""
- name: A completion comes back from this node
  muster_completion:
    host_id: "{{ muster_host_id }}"
"""

RETURN = r"""
answer:
  description: What the model said.
  type: str
  returned: success
model:
  description: Id of the model that answered.
  type: str
  returned: success
node_id:
  description: Id of the node that answered.
  type: str
  returned: success
device:
  description: Where the model runs, V(cuda) or V(cpu).
  type: str
  returned: success
seconds:
  description: Time until the answer was complete.
  type: float
  returned: success
"""
