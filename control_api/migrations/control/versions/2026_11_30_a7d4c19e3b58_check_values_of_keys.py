"""check values of keys in a table of their own, which routers may read

Revision ID: a7d4c19e3b58
Revises: f06b7d2c51e8
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op


revision = 'a7d4c19e3b58'
down_revision = 'f06b7d2c51e8'
branch_labels = None
depends_on = None

_PREFIX = 'key_check_'
_setting = sa.table('setting', sa.column('name', sa.String), sa.column('value', sa.JSON))
_key_check = sa.table('key_check', sa.column('name', sa.String), sa.column('value', sa.String))


def upgrade() -> None:
    op.create_table('key_check',
    sa.Column('name', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
    sa.Column('value', sqlmodel.sql.sqltypes.AutoString(length=512), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_key_check'))
    )
    bind, ours = op.get_bind(), _setting.c.name.startswith(_PREFIX, autoescape=True)
    for name, value in bind.execute(sa.select(_setting.c.name, _setting.c.value).where(ours)).all():
        bind.execute(_key_check.insert().values(name=name.removeprefix(_PREFIX), value=value))
    bind.execute(_setting.delete().where(ours))


def downgrade() -> None:
    bind = op.get_bind()
    for name, value in bind.execute(sa.select(_key_check.c.name, _key_check.c.value)).all():
        bind.execute(_setting.insert().values(name=_PREFIX + name, value=value))
    op.drop_table('key_check')
