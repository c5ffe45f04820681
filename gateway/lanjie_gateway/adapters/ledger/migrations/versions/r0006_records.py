"""The hash tree over inquiry records, its checkpoints, and the chains of the spools."""

import sqlalchemy as sa
from alembic import op

from lanjie_gateway.domain.merkle import Range

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STORED_LEVEL = 8
_PAGE = 10_000


def upgrade() -> None:
    """Go to the newer schema."""
    op.add_column("inquiry", sa.Column("tree_index", _ID, nullable=True))
    op.add_column("inquiry_source", sa.Column("chain", sa.LargeBinary(), nullable=True))
    op.create_table(
        "record_tree",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("size", _ID, nullable=False),
        sa.Column("edge", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_record_tree"),
    )
    op.create_table(
        "record_node",
        sa.Column("leaves", _ID, nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("leaves", "level", name="pk_record_node"),
    )
    op.create_table(
        "checkpoint",
        sa.Column("epoch", _ID, nullable=False),
        sa.Column("size", _ID, nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "size", name="pk_checkpoint"),
    )
    _grow()
    op.create_index("ix_inquiry_tree_index", "inquiry", ["tree_index"], unique=True)


def _grow() -> None:
    """Give the records that are here their places, in the order in which they were kept."""
    op.execute(
        "UPDATE inquiry SET tree_index = placed.place FROM "
        "(SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM inquiry) AS placed WHERE inquiry.id = placed.id"
    )
    connection = op.get_bind()
    tree, after = Range(), 0
    page = sa.text("SELECT id, digest FROM inquiry WHERE id > :after ORDER BY id LIMIT :most")
    while rows := connection.execute(page, {"after": after, "most": _PAGE}).all():
        nodes = []
        for row in rows:
            completed = tree.append(bytes(row.digest))
            nodes += [
                {"leaves": tree.size, "level": level, "hash": root}
                for level, root in completed
                if level >= _STORED_LEVEL
            ]
        if nodes:
            connection.execute(
                sa.text("INSERT INTO record_node (leaves, level, hash) VALUES (:leaves, :level, :hash)"), nodes
            )
        after = rows[-1].id
    connection.execute(
        sa.text("INSERT INTO record_tree (id, size, edge) VALUES (1, :size, :edge)"),
        {"size": tree.size, "edge": b"".join(tree.edge)},
    )
