"""The schema of a pool on a database server, as migrations in order. Never edit one that was released: add the next."""

from __future__ import annotations

from dataclasses import dataclass

# The columns of the first version, as they were.
_COLUMNS_1 = (
    "id namespace function version key request request_hash arguments response expected codec kind origin trust scores "
    "score metric trajectory model strategy parents metadata created_at expires_at last_access access_count "
    "schema_version reuse_scope principal size_bytes revision is_current superseded_by embed_due embed_tries "
    "score_due score_tries checksum listed".split()
)
_INTEGERS = frozenset(
    "created_at expires_at last_access access_count schema_version size_bytes revision embed_due embed_tries "
    "score_due score_tries checksum listed".split()
)
_NAMES = {"namespace": 255, "id": 500, "key": 500, "superseded_by": 500, "request_hash": 64}
_OPTIONAL = frozenset(
    "response expected score model strategy expires_at last_access principal superseded_by embed_due score_due".split()
)


@dataclass(frozen=True)
class Types:
    """How an engine declares things.

    Args:
        text: of any length.
        blob: bytes of any length.
        real: a float of 8 bytes.
        row_number: a primary key that counts.
        name: text of at most so many characters, which can be part of a key.
        table_end: behind the columns.
        partial: whether an index may leave rows out.
        prefix: how much of a long text an index takes, behind its name.
    """

    text: str
    blob: str
    real: str
    row_number: str
    name: str
    table_end: str
    partial: bool
    prefix: str


def _first(types: Types) -> tuple[str, ...]:
    def name(column: str, length: int = 255) -> str:
        return f'"{column}" {types.name.format(length)} NOT NULL'

    def declare(column: str) -> str:
        if column in _NAMES:
            kind = types.name.format(_NAMES[column])
        elif column == "is_current":
            kind = "SMALLINT"
        else:
            kind = "BIGINT" if column in _INTEGERS else types.real if column == "score" else types.text
        return f'"{column}" {kind}{"" if column in _OPTIONAL else " NOT NULL"}'

    def table(title: str, *parts: str) -> str:
        return f"CREATE TABLE {title} ({', '.join(parts)}){types.table_end}"

    def index(title: str, columns: str, where: str = "") -> str:
        rows = f" WHERE {where}" if where and types.partial else ""
        return f"CREATE INDEX {title} ON experiences ({columns}){rows}"

    # At most one current row of a key: an index that leaves out the others, or a column that is NULL for them.
    only_current = (
        f'"current_key" {types.name.format(500)} GENERATED ALWAYS AS (CASE WHEN is_current = 1 THEN "key" END)'
    )
    columns = [f"seq {types.row_number}", *map(declare, _COLUMNS_1)]
    if not types.partial:
        columns.append(f"{only_current} STORED")
    current = (
        'CREATE UNIQUE INDEX experiences_current ON experiences (namespace, "key") WHERE is_current = 1'
        if types.partial
        else "CREATE UNIQUE INDEX experiences_current ON experiences (namespace, current_key)"
    )
    return (
        table("experiences", *columns),
        "CREATE UNIQUE INDEX experiences_id ON experiences (namespace, id)",
        current,
        index("experiences_key", 'namespace, "key"', "is_current = 0"),
        index("experiences_request", "namespace, request_hash"),
        index("experiences_function", f'namespace, "function"{types.prefix}, created_at'),
        index("experiences_created", "namespace, created_at"),
        index("experiences_listed", "namespace, listed"),
        index("experiences_score", "namespace, score", "score IS NOT NULL"),
        index("experiences_expiry", "namespace, expires_at", "expires_at IS NOT NULL"),
        index("experiences_used", "namespace, last_access", "last_access IS NOT NULL"),
        index("owed_embed", "embed_due", "embed_due IS NOT NULL"),
        index("owed_score", "score_due", "score_due IS NOT NULL"),
        table(
            "vectors",
            *(name("namespace"), name("id", 500), name("embedder"), "whole SMALLINT NOT NULL"),
            *("position BIGINT NOT NULL", f"data {types.blob} NOT NULL"),
            *(f"{column} {types.text} NOT NULL" for column in ('"function"', "version", "reuse_scope")),
            "PRIMARY KEY (namespace, id)",
        ),
        "CREATE INDEX vectors_position ON vectors (namespace, embedder, position)",
        table(
            "forgotten",
            *("position BIGINT NOT NULL", name("namespace"), name("embedder"), name("id", 500)),
            *("forgotten_at BIGINT NOT NULL", "PRIMARY KEY (namespace, position)"),
        ),
        # Rows, vectors and logs of a namespace are counted together. Whoever counts holds the row until his transaction
        # ends, so numbers are seen by others in their order: a sequence would give them out before they can be seen.
        table("counters", name("namespace"), "value BIGINT NOT NULL", "PRIMARY KEY (namespace)"),
        table(
            "tombstones",
            name("namespace"),
            name("id", 500),
            "deleted_at BIGINT NOT NULL",
            "PRIMARY KEY (namespace, id)",
        ),
        table("cutoffs", name("namespace"), "cleared_at BIGINT NOT NULL", "PRIMARY KEY (namespace)"),
        table(
            "leases",
            *(name("namespace"), name("key", 500), f"owner {types.text} NOT NULL", "token BIGINT NOT NULL"),
            *("expires_at BIGINT NOT NULL", 'PRIMARY KEY (namespace, "key")'),
        ),
        table(
            "states",
            *(name("namespace"), name("name", 500), f"value {types.text} NOT NULL", "revision BIGINT NOT NULL"),
            "PRIMARY KEY (namespace, name)",
        ),
        table(
            "logs",
            *("position BIGINT NOT NULL", name("namespace"), name("name", 500), f"entry {types.text} NOT NULL"),
            "PRIMARY KEY (namespace, name, position)",
        ),
    )


def _second(types: Types) -> tuple[str, ...]:
    # What source of a function gave the answer: rows of earlier versions do not know.
    return (f"ALTER TABLE experiences ADD COLUMN source {types.name.format(100)} DEFAULT '' NOT NULL",)


MIGRATIONS = (_first, _second)
"""What brings the schema from each version to the next: from an engine's types to statements."""
