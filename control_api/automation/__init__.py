"""Jobs: Ansible runs with their events, one supervisor process each."""
