"""tokens that die with their parent

Revision ID: c3a1f0d94e72
Revises: ebe7c8399e95
"""

import uuid

import sqlalchemy as sa
import sqlmodel
from alembic import op


revision = 'c3a1f0d94e72'
down_revision = 'ebe7c8399e95'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('job', schema=None) as batch_op:
        batch_op.add_column(sa.Column('asker', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True))
    with op.batch_alter_table('user_session', schema=None) as batch_op:
        batch_op.add_column(sa.Column('token_id', sqlmodel.sql.sqltypes.AutoString(length=36), nullable=True))
    sessions = sa.table('user_session', sa.column('id_hash'), sa.column('token_id'))
    connection = op.get_bind()
    for (id_hash,) in connection.execute(sa.select(sessions.c.id_hash)).all():
        connection.execute(sessions.update().where(sessions.c.id_hash == id_hash).values(token_id=str(uuid.uuid4())))
    with op.batch_alter_table('user_session', schema=None) as batch_op:
        batch_op.alter_column('token_id', existing_type=sqlmodel.sql.sqltypes.AutoString(length=36), nullable=False)
        batch_op.create_unique_constraint(batch_op.f('uq_user_session_token_id'), ['token_id'])
    op.drop_table('revoked_token')


def downgrade() -> None:
    op.create_table('revoked_token',
    sa.Column('jti', sqlmodel.sql.sqltypes.AutoString(length=36), nullable=False),
    sa.Column('expires_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('jti', name=op.f('pk_revoked_token'))
    )
    with op.batch_alter_table('user_session', schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f('uq_user_session_token_id'), type_='unique')
        batch_op.drop_column('token_id')
    with op.batch_alter_table('job', schema=None) as batch_op:
        batch_op.drop_column('asker')
