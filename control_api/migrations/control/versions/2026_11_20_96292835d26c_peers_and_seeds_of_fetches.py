"""peers and seeds of fetches

Revision ID: 96292835d26c
Revises: 46fd82b483b5
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op


revision = '96292835d26c'
down_revision = '46fd82b483b5'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Requests are asked again within seconds, so none is carried over.
    op.execute("DELETE FROM fetch_grant")
    op.create_table('distrusted_peer',
    sa.Column('node_id', sqlmodel.sql.sqltypes.AutoString(length=36), nullable=False),
    sa.Column('sha256', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
    sa.Column('installed_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
    sa.Column('reported_by', sqlmodel.sql.sqltypes.AutoString(length=36), nullable=False),
    sa.Column('reason', sqlmodel.sql.sqltypes.AutoString(length=2000), nullable=False),
    sa.Column('at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['node.id'], name=op.f('fk_distrusted_peer_node_id_node'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', 'sha256', name=op.f('pk_distrusted_peer'))
    )
    with op.batch_alter_table('download_task', schema=None) as batch_op:
        batch_op.add_column(sa.Column('source', sqlmodel.sql.sqltypes.AutoString(length=512), nullable=True))

    with op.batch_alter_table('fetch_grant', schema=None) as batch_op:
        batch_op.add_column(sa.Column('state', sa.Enum('waiting', 'parked', 'granted', 'handed_back', name='grantstate', native_enum=False, length=32), nullable=False))
        batch_op.add_column(sa.Column('site', sqlmodel.sql.sqltypes.AutoString(length=63), nullable=True))
        batch_op.add_column(sa.Column('peer_id', sqlmodel.sql.sqltypes.AutoString(length=36), nullable=True))
        batch_op.add_column(sa.Column('bytes_seen', sa.BigInteger(), nullable=False))
        batch_op.add_column(sa.Column('moved_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False))
        batch_op.create_index(batch_op.f('ix_fetch_grant_sha256'), ['sha256'], unique=False)
        batch_op.drop_column('granted')

    with op.batch_alter_table('node_model', schema=None) as batch_op:
        batch_op.add_column(sa.Column('held', sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
        batch_op.add_column(sa.Column('source', sqlmodel.sql.sqltypes.AutoString(length=512), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM fetch_grant")
    with op.batch_alter_table('node_model', schema=None) as batch_op:
        batch_op.drop_column('source')
        batch_op.drop_column('held')

    with op.batch_alter_table('fetch_grant', schema=None) as batch_op:
        batch_op.add_column(sa.Column('granted', sa.BOOLEAN(), nullable=False))
        batch_op.drop_index(batch_op.f('ix_fetch_grant_sha256'))
        batch_op.drop_column('moved_at')
        batch_op.drop_column('bytes_seen')
        batch_op.drop_column('peer_id')
        batch_op.drop_column('site')
        batch_op.drop_column('state')

    with op.batch_alter_table('download_task', schema=None) as batch_op:
        batch_op.drop_column('source')

    op.drop_table('distrusted_peer')
