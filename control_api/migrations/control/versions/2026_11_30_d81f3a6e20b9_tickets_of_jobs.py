"""tickets of jobs

Revision ID: d81f3a6e20b9
Revises: a7d4c19e3b58
"""

import sqlalchemy as sa
from alembic import op


revision = 'd81f3a6e20b9'
down_revision = 'a7d4c19e3b58'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Tickets are good for minutes, and those from before have no tags that count.
    with op.batch_alter_table('enrolment_ticket', schema=None) as batch_op:
        batch_op.add_column(sa.Column('for_job', sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table('enrolment_ticket', schema=None) as batch_op:
        batch_op.drop_column('for_job')
