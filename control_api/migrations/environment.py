"""What both stores' ``env.py`` do."""

import sqlalchemy as sa
from alembic import context

import control_api.access.models
import control_api.automation.models
import control_api.catalogue.models
import control_api.distribution.fetch_models
import control_api.distribution.models
import control_api.fleet.models
import control_api.kit.bus
import control_api.kit.revision
import control_api.providers.models
import control_api.telemetry.models  # noqa: F401 - the imports register the tables
from control_api.kit.database import sync_engine
from control_api.kit.tables import ControlTable, TelemetryTable
from control_api.migrations.runner import StoreSchema

METADATA = {"control": ControlTable.metadata, "telemetry": TelemetryTable.metadata}


def run() -> None:
    """Run the migrations of the store that the configuration names."""
    store: StoreSchema = context.config.attributes["store"]
    metadata = METADATA[store.name]
    engine = sync_engine(store.sync_url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=store.version_table,
            render_as_batch=True,
            compare_type=True,
            # On PostgreSQL the other store's tables are in the same schema.
            include_name=lambda name, kind, _parents: kind != "table" or name in metadata.tables,
        )
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
            context.run_migrations()
