"""Schema migrations of the two stores, by alembic. ``python -m control_api.migrations --help`` for developers."""
