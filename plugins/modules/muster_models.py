# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin `muster_models`, which runs on the controller."""

DOCUMENTATION = r"""
module: muster_models
short_description: Order models for nodes and follow them
description:
  - One order from the controller for all nodes; the nodes fetch the bytes themselves.
  - Ends when every node has taken its manifest over and, with O(wait), when every model is loaded or has failed.
author: Muster
attributes:
  check_mode: {support: full, description: Says what would be downloaded and how many bytes.}
  diff_mode: {support: none, description: The download tasks are the record.}
options:
  models:
    description: Ids of the models to order. Empty means whatever the placement policy has assigned.
    type: list
    elements: str
    default: []
  host_ids:
    description: Ids of the hosts whose nodes are meant.
    type: list
    elements: str
    default: []
  node_ids:
    description: Ids of further nodes.
    type: list
    elements: str
    default: []
  if_installed:
    description: What to do where the model is already there.
    type: str
    choices: [skip, redownload]
    default: skip
  retry_when_online:
    description: Let the order wait for nodes that are offline instead of refusing it.
    type: bool
    default: false
  wait:
    description: Follow the downloads to their end.
    type: bool
    default: true
  apply_timeout_s:
    description: How long a node may take to register and to take its manifest over, in seconds.
    type: int
    default: 60
  timeout_s:
    description: How long all downloads together may take, in seconds.
    type: int
    default: 7200
  api_url:
    description: Address of the control API. Default E(MUSTER_API_URL), else the variable C(muster_api_url).
    type: str
  ca_bundle:
    description: Certificate authorities to trust on the controller. Default E(MUSTER_CA_BUNDLE).
    type: path
"""

EXAMPLES = r"""
- name: Order a model for all hosts of the play
  muster_models:
    models: [smollm2:135m]
    host_ids: "{{ ansible_play_hosts | map('extract', hostvars, 'muster_host_id') }}"
  run_once: true
"""

RETURN = r"""
task_ids:
  description: Ids of the download tasks.
  type: list
  elements: str
  returned: success, but not in check mode
bytes:
  description: Bytes that would be downloaded.
  type: int
  returned: in check mode
"""
