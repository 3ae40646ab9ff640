# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin `muster_options`, which runs on the controller."""

DOCUMENTATION = r"""
module: muster_options
short_description: Refuse values of options that could be more than values
description:
  - Options end in units, configuration files, commands and deletions of root. Ansible itself checks no more than their type.
  - Fails with the name of each option whose value is not of its kind, and says what it should be. Nothing runs on the host.
author: Muster
attributes:
  check_mode: {support: full, description: Looks only.}
  diff_mode: {support: none, description: Changes nothing.}
options:
  kinds:
    description:
      - Name of each variable to look at, and of which kind its value is. A variable that is not set is passed over.
      - Kinds are V(flag), V(count), V(port), V(word), V(service), V(user), V(folder), V(backup_folder), V(config_folder),
        V(path), V(python), V(controller_path), V(address), V(sources), V(url), V(proxies), V(hosts), V(sysctl), V(version),
        V(public_key), V(database), V(secret), V(tags), V(models) and V(settings).
      - A dictionary C({below, called}) is the kind of a path below another one.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Assert that every option is what it may be
  muster_options:
    kinds:
      node_service_name: service
      node_service_port: port
"""

RETURN = r"""#"""
