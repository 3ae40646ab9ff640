"""Alembic's entry for this store."""

from control_api.migrations import environment

environment.run()
