# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin `muster_node`, which runs on the controller."""

DOCUMENTATION = r"""
module: muster_node
short_description: Bring a node of a Muster fleet into a state
description:
  - Talks to the control API from the controller; nothing runs on the host.
  - The token comes from E(MUSTER_TOKEN_FILE) (a job's token) or E(MUSTER_API_KEY) (an C(operate) key).
author: Muster
attributes:
  check_mode: {support: full, description: Asks and says what it would do.}
  diff_mode: {support: full, description: Shows the state before and after.}
options:
  state:
    description:
      - V(registered) returns a one-use enrolment ticket unless the host already holds the identity that the API knows.
      - V(drained) holds the node and waits until no request is in flight.
      - V(resumed) takes the hold away.
      - V(ready) waits until the node has loaded what its manifest asks for, and fails with the node's own error texts.
    type: str
    required: true
    choices: [registered, drained, resumed, ready]
  host_id:
    description: Id of the host. Finds the node when O(node_id) is not given.
    type: str
  node_id:
    description: Id of the node; with O(state=registered) the id that the host itself holds.
    type: str
  instance_id:
    description: With V(ready), the start of the node service to wait for. What an earlier one reported does not count.
    type: str
  reason:
    description: Why the node is drained; shown to operators.
    type: str
    default: drained by a playbook
  force:
    description: Also drain the last ready node of a model.
    type: bool
    default: false
  outlives_job:
    description: With V(drained) in a job, leave the node drained when the job ends. Otherwise the hold ends with it.
    type: bool
    default: false
  all_holds:
    description: With V(resumed), also take the holds of others away. The control API lets a person do that, but no job.
    type: bool
    default: false
  timeout_s:
    description: How long to wait for V(drained) or V(ready), in seconds.
    type: int
    default: 300
  api_url:
    description: Address of the control API. Default E(MUSTER_API_URL), else the variable C(muster_api_url).
    type: str
  ca_bundle:
    description: Certificate authorities to trust on the controller. Default E(MUSTER_CA_BUNDLE).
    type: path
"""

EXAMPLES = r"""
- name: Drain the node
  muster_node:
    state: drained
    host_id: "{{ muster_host_id }}"
    reason: new fans
"""

RETURN = r"""
ticket:
  description: The enrolment ticket, or null when none is needed. Kept out of the output.
  type: str
  returned: with O(state=registered)
node_id:
  description: Id of the node.
  type: str
  returned: when there is a node
held_by:
  description: Who still holds the node drained.
  type: list
  elements: str
  returned: with O(state=resumed)
models:
  description: The models on the node, as the API reports them.
  type: list
  returned: with O(state=ready)
"""
