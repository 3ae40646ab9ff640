"""Hosts that Ansible reaches, and the nodes that report themselves from them."""
