"""acceptance of hosts

Revision ID: a4c1d9e07b52
Revises: c3a1f0d94e72
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op


revision = 'a4c1d9e07b52'
down_revision = 'c3a1f0d94e72'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('host', schema=None) as batch_op:
        batch_op.add_column(sa.Column('accepted_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True))
        batch_op.add_column(sa.Column('accepted_by', sqlmodel.sql.sqltypes.AutoString(length=128), nullable=True))

    # Those that are there are in use: an upgrade stops nothing.
    op.execute("UPDATE host SET accepted_at = created_at, accepted_by = 'migration'")


def downgrade() -> None:
    with op.batch_alter_table('host', schema=None) as batch_op:
        batch_op.drop_column('accepted_by')
        batch_op.drop_column('accepted_at')
