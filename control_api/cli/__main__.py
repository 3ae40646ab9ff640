"""``python -m control_api.cli``."""

from control_api.cli import main

main()
