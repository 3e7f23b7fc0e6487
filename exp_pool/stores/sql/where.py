"""Queries as SQL with bound values. What a user gives is only ever a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.filters import Condition
from exp_pool.core.record import hash_text
from exp_pool.stores.columns import keep
from exp_pool.stores.sql.dialect import Dialect

_NEVER, _ALWAYS = "1 = 0", "1 = 1"
_ORDERINGS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class Where:
    """A WHERE clause, its values, and the conditions that it leaves to `filters.holds`."""

    term: str
    values: list[Any]
    rest: tuple[Condition, ...] = ()

    @property
    def looked_at(self) -> str:
        """The columns that the rest needs, for a list behind SELECT; each once."""
        return "".join(f', "{field}"' for field in self.fields)

    @property
    def fields(self) -> list[str]:
        """The names of the fields that these columns are."""
        return list(dict.fromkeys(condition.field for condition in self.rest))


def select(query: RecordQuery, dialect: Dialect) -> Where:
    """A query as a WHERE clause."""
    terms: list[str] = []
    values: list[Any] = []
    now, now_values = dialect.now()
    if query.namespace is not None:
        # The sign keeps SQLite from walking the namespace where the small index of pending rows answers at once.
        terms.append(f"{dialect.unindexed if query.pending else ''}namespace = ?")
        values.append(keep(query.namespace))
    if not query.history:
        terms.append("is_current = 1")
    if not query.expired:
        terms.append(f"(expires_at IS NULL OR expires_at > {now})")
        values += now_values
    if not query.quarantined:
        terms.append("trust = 'trusted'")
    if query.pending is not None:
        # No engine uses an index for a comparison with its clock, MySQL for IS NOT NULL.
        due = f"{query.pending.value}_due"
        terms.append(f"is_current = 1 AND {due} IS NOT NULL AND {due} <= {now}")
        values += now_values
    rest = []
    for condition in query.where:
        # Of nested members the name alone does not say where they are, and arguments may be compressed.
        if condition.path and (not dialect.json or "." in condition.path or condition.field == "arguments"):
            rest.append(condition)
            continue
        term, bound = _member(condition) if condition.path else _column(condition, dialect)
        terms.append(term)
        values += bound
    return Where(" AND ".join(terms) or "1 = 1", values, tuple(rest))


def _column(condition: Condition, dialect: Dialect) -> tuple[str, list[Any]]:
    """A condition on a column. `field` and `operator` come from the allowlist of `filters`, never from a user."""
    field = "(expected IS NOT NULL)" if condition.field == "annotated" else f'"{condition.field}"'
    wanted = condition.value
    match condition.operator:
        case "exists":
            return f"({field} IS NOT NULL) = ?", [bool(wanted)]
        case "eq" if condition.field == "request":  # by its hash: engines limit the length of what they index
            indexed, length = dialect.hashed
            return f"{indexed} = ? AND request = ?", [hash_text(str(wanted))[:length], _value(wanted)]
        case "eq":
            return f"{field} = ?", [_value(wanted)]
        case "ne":
            return f"({field} IS NULL OR {field} <> ?)", [_value(wanted)]
        case "in":
            choices = [_value(choice) for choice in wanted]  # type: ignore[union-attr]
            return (f"{field} IN ({', '.join('?' * len(choices))})", choices) if choices else (_NEVER, [])
        case "not_in":
            choices = [_value(choice) for choice in wanted]  # type: ignore[union-attr]
            marks = ", ".join("?" * len(choices))
            return (f"({field} IS NULL OR {field} NOT IN ({marks}))", choices) if choices else (_ALWAYS, [])
        case "contains":
            return f"{dialect.position}({field}, ?) > 0", [_value(wanted)]
        case "prefix":
            begins = _value(wanted)
            return f"substr({field}, 1, {len(begins)}) = ?", [begins]
        case operator:
            return f"{field} {_ORDERINGS[operator]} ?", [_value(wanted)]


def _value(value: Any) -> Any:
    return keep(value) if isinstance(value, str) else value


# SQLite's functions. Other engines tell types, numbers and NUL apart by other rules: there rows are looked at here.


def _member(condition: Condition) -> tuple[str, list[Any]]:
    """A condition on a member of a JSON column; types count, so every comparison names the JSON type it expects."""
    column, wanted = condition.field, condition.value
    path = f'$."{condition.path}"'
    kind, found = f"json_type({column}, ?)", f"json_extract({column}, ?)"
    match condition.operator:
        case "exists":
            return f"({kind} IS NOT NULL) = ?", [path, bool(wanted)]
        case "eq":
            return _equals(kind, found, [path], wanted)
        case "ne":
            term, values = _equals(kind, found, [path], wanted)
            return f"NOT coalesce(({term}), 0)", values
        case "in" | "not_in":
            terms = [_equals(kind, found, [path], choice) for choice in wanted]  # type: ignore[union-attr]
            joined = " OR ".join(f"({term})" for term, _ in terms) or _NEVER
            among = f"({joined})" if condition.operator == "in" else f"NOT coalesce(({joined}), 0)"
            return among, [value for _, values in terms for value in values]
        case "prefix":
            return f"({kind} = 'text' AND substr({found}, 1, {len(str(wanted))}) = ?)", [path, path, wanted]
        case "contains":
            element, values = _equals("e.type", "e.atom", [], wanted)
            text = f"instr({found}, ?) > 0" if isinstance(wanted, str) else "0"
            return (
                f"CASE {kind} WHEN 'text' THEN {text} WHEN 'array' THEN "
                f"EXISTS (SELECT 1 FROM json_each({column}, ?) AS e WHERE {element}) ELSE 0 END",
                [path, *([path, wanted] if isinstance(wanted, str) else []), path, *values],
            )
        case operator:
            types = "('text')" if isinstance(wanted, str) else "('integer', 'real')"
            return f"({kind} IN {types} AND {found} {_ORDERINGS[operator]} ?)", [path, path, wanted]


def _equals(kind: str, found: str, path: list[str], wanted: Any) -> tuple[str, list[Any]]:
    if wanted is None:
        return f"{kind} = 'null'", path
    if isinstance(wanted, bool):
        return f"{kind} = '{'true' if wanted else 'false'}'", path
    types = "('text')" if isinstance(wanted, str) else "('integer', 'real')"
    return f"{kind} IN {types} AND {found} = ?", [*path, *path, wanted]
