"""One process tree per job: a guard, the supervisor under it, and below that whatever Ansible starts. A fork server begins it.

The supervisor holds the job's lease, runs ansible-runner and writes the events. It is a process of its own so that a crash, a
leak or a restart of the API touches no run. The guard exists because a frozen or killed supervisor cannot end its own tree.
"""
