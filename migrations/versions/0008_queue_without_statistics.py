"""How is the queue walked in order, however old the planner's statistics are?

Statistics gathered while nothing waited say that nothing waits. In the minute before a flood is analysed, the planner
then expects a single queued row whichever index it takes, and sorts a hundred thousand of them for each claim. Of
`texteq(state, 'queued')`, the same question asked as a function, it has no statistics: it expects a third of the table,
and walks the index in the order that is asked for.
"""

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the two indexes of what waits ask by function."""
    _replace("texteq(state, 'queued')")


def downgrade() -> None:
    """Let them ask by comparison again."""
    _replace("state = 'queued'")


def _replace(queued: str) -> None:
    op.drop_index("ix_screenings_queued", "screenings")
    op.drop_index("ix_screenings_live", "screenings")
    op.create_index(
        "ix_screenings_queued", "screenings", ["platform_id", "rank"], postgresql_where=text(f"{queued} and not alone")
    )
    op.create_index("ix_screenings_live", "screenings", ["due_at"], postgresql_where=text(queued))
