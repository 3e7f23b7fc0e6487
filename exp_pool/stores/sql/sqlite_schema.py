"""The schema of an SQLite pool, as migrations in order. Never edit one that was released: add the next."""

from __future__ import annotations

# Marks a database as a pool ("XPOL"), so that somebody else's is never written to.
APPLICATION_ID = 0x58504F4C

# The columns of the first version, as they were.
_COLUMNS_1 = (
    "id namespace function version key request request_hash arguments response expected codec kind origin trust scores "
    "score metric trajectory model strategy parents metadata created_at expires_at last_access access_count "
    "schema_version reuse_scope principal size_bytes revision is_current superseded_by embed_due embed_tries index_due "
    "index_tries score_due score_tries index_generation".split()
)
_INTEGERS = frozenset(
    "created_at expires_at last_access access_count schema_version size_bytes revision is_current "
    "embed_due embed_tries index_due index_tries score_due score_tries".split()
)
_OPTIONAL = frozenset(
    "response expected score model strategy expires_at last_access principal superseded_by index_generation "
    "embed_due index_due score_due".split()
)


def _declare(column: str) -> str:
    kind = "INTEGER" if column in _INTEGERS else "REAL" if column == "score" else "TEXT"
    return f"{column} {kind}{'' if column in _OPTIONAL else ' NOT NULL'}"


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # seq gives rows their order of insertion, and scans a handle that stays valid while rows come and go.
        f"CREATE TABLE experiences (seq INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(map(_declare, _COLUMNS_1))})",
        "CREATE UNIQUE INDEX experiences_id ON experiences (namespace, id)",
        "CREATE UNIQUE INDEX experiences_current ON experiences (namespace, key) WHERE is_current = 1",
        # History is rare, so `where` on a key looks here; the current row is found by the index above.
        "CREATE INDEX experiences_history ON experiences (namespace, key) WHERE is_current = 0",
        "CREATE INDEX experiences_request ON experiences (namespace, request_hash)",
        "CREATE INDEX experiences_function ON experiences (namespace, function, created_at)",
        "CREATE INDEX experiences_created ON experiences (namespace, created_at)",
        # Partial: most rows have none of these. Fields of few values (kind, origin, trust, model) are scanned instead:
        # an index that selects a third of the rows costs every write and saves no read.
        "CREATE INDEX experiences_score ON experiences (namespace, score) WHERE score IS NOT NULL",
        "CREATE INDEX experiences_expiry ON experiences (namespace, expires_at) WHERE expires_at IS NOT NULL",
        "CREATE INDEX experiences_used ON experiences (namespace, last_access) WHERE last_access IS NOT NULL",
        "CREATE INDEX owed_embed ON experiences (embed_due) WHERE embed_due IS NOT NULL",
        "CREATE INDEX owed_index ON experiences (index_due) WHERE index_due IS NOT NULL",
        "CREATE INDEX owed_score ON experiences (score_due) WHERE score_due IS NOT NULL",
        # Beside the rows, so that an exact hit reads no vector. data NULL: the row is gone or history.
        "CREATE TABLE vectors (namespace TEXT NOT NULL, id TEXT NOT NULL, embedder TEXT NOT NULL,"
        " whole INTEGER NOT NULL, position INTEGER NOT NULL, data BLOB, PRIMARY KEY (namespace, id))",
        "CREATE INDEX vectors_position ON vectors (namespace, embedder, position)",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO counters VALUES ('position', 0), ('token', 0)",
        "CREATE TABLE tombstones (namespace TEXT NOT NULL, id TEXT NOT NULL, deleted_at INTEGER NOT NULL,"
        " PRIMARY KEY (namespace, id)) WITHOUT ROWID",
        "CREATE TABLE cutoffs (namespace TEXT PRIMARY KEY, cleared_at INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE leases (namespace TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, token INTEGER NOT NULL,"
        " expires_at INTEGER NOT NULL, PRIMARY KEY (namespace, key)) WITHOUT ROWID",
        "CREATE TABLE states (namespace TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,"
        " revision INTEGER NOT NULL, PRIMARY KEY (namespace, name)) WITHOUT ROWID",
        "CREATE TABLE logs (position INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, name TEXT NOT NULL,"
        " entry TEXT NOT NULL)",
        "CREATE INDEX logs_name ON logs (namespace, name, position)",
    ),
    (
        # How far an index got is now one position for each space, not a mark on every row. Vectors that are gone stand
        # apart, so that those that are there can be counted from an index, and what is no longer needed can go.
        "DROP INDEX owed_index",
        *(f"ALTER TABLE experiences DROP COLUMN {name}" for name in ("index_due", "index_tries", "index_generation")),
        "CREATE TABLE forgotten (position INTEGER PRIMARY KEY, namespace TEXT NOT NULL, embedder TEXT NOT NULL,"
        " id TEXT NOT NULL, forgotten_at INTEGER NOT NULL)",
        "CREATE INDEX forgotten_position ON forgotten (namespace, embedder, position)",
        "INSERT INTO forgotten SELECT position, namespace, embedder, id,"
        " CAST(strftime('%s', 'now') AS INTEGER) * 1000000 FROM vectors WHERE data IS NULL",
        "DELETE FROM vectors WHERE data IS NULL",
        # Twelve hexadecimal digits tell a billion texts apart but for a few, and an index of a third of the pages is
        # written faster: a page for each row, as hashes come in no order.
        "DROP INDEX experiences_request",
        "CREATE INDEX experiences_request ON experiences (namespace, substr(request_hash, 1, 12))",
        # Of what decides an answer; NULL in rows of the first version until they are changed.
        "ALTER TABLE experiences ADD COLUMN checksum INTEGER",
        "UPDATE states SET name = 'embedder', value = json_extract(value, '$.embedder') WHERE name = 'index-owner'",
    ),
    (
        # Logs are counted by the same counter as vectors, as on engines that have no AUTOINCREMENT.
        "UPDATE counters SET value = max(value, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'logs'), 0))"
        " WHERE name = 'position'",
    ),
    # What source of a function gave the answer: rows of earlier versions do not know.
    ("ALTER TABLE experiences ADD COLUMN source TEXT NOT NULL DEFAULT ''",),
)
