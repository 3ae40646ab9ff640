"""`python -m node_service`: the same as the `muster-node` command."""

from node_service.cli import main

main()
