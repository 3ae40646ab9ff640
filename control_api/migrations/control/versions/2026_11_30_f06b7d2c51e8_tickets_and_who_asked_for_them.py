"""tickets and who asked for them

Revision ID: f06b7d2c51e8
Revises: a4c1d9e07b52
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op


revision = 'f06b7d2c51e8'
down_revision = 'a4c1d9e07b52'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('enrolment_ticket', schema=None) as batch_op:
        batch_op.add_column(sa.Column('asker', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('enrolment_ticket', schema=None) as batch_op:
        batch_op.drop_column('asker')
