"""``rules``: the share of rules that an answer keeps: length, patterns, a schema, what must and must not be there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from exp_pool.errors import ConfigurationError, ScorerError
from exp_pool.protocols import Score, ScoreContext

from ._texts import answer_of, text_of, version_of

_PATTERN_S = 2.0  # a pattern that needs longer backtracks without end
_SHOWN = 40  # characters


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `check` gets the value and its text, and says whether it is kept, or how well (0 to 1)."""

    name: str
    check: Callable[[Any, str], Any]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (
            isinstance(self.weight, bool)
            or not isinstance(self.weight, int | float)
            or not 0 < self.weight < float("inf")
        ):
            raise ConfigurationError(f"{self.name}: weight={self.weight!r} must be a positive number")


def length(least: int = 0, most: int | None = None, *, weight: float = 1.0) -> Rule:
    """The text has so many characters.

    Args:
        least: characters, included.
        most: characters, included; None: any number.
        weight: of the rule.
    """
    if least < 0 or (most is not None and most < least):
        raise ConfigurationError(f"length({least!r}, {most!r}) can never be kept")
    upper = float("inf") if most is None else most
    return Rule(
        f"length {least} to {'any' if most is None else most}", lambda _, text: least <= len(text) <= upper, weight
    )


def matches(pattern: str, *, weight: float = 1.0) -> Rule:
    """The pattern (of the package `regex`) is found in the text; anchor it for the whole. Two seconds at most."""
    try:
        compiled = regex.compile(pattern)
    except regex.error as err:
        raise ConfigurationError(f"matches({pattern!r}): {err}") from err

    def found(_: Any, text: str) -> bool:
        try:
            return compiled.search(text, timeout=_PATTERN_S, concurrent=True) is not None
        except TimeoutError as err:
            raise ScorerError(f"the pattern {pattern!r} took more than {_PATTERN_S:g} s on this text") from err

    return Rule(f"matches {_short(pattern)}", found, weight)


def contains(part: str, *, case: bool = True, weight: float = 1.0) -> Rule:
    """The text contains a part.

    Args:
        part: looked for.
        case: whether upper and lower case differ.
        weight: of the rule.
    """
    return Rule(f"contains {_short(part)}", lambda _, text: _within(part, text, case=case), weight)


def lacks(part: str, *, case: bool = False, weight: float = 1.0) -> Rule:
    """The text does not contain a part.

    Args:
        part: looked for.
        case: whether upper and lower case differ.
        weight: of the rule.
    """
    return Rule(f"lacks {_short(part)}", lambda _, text: not _within(part, text, case=case), weight)


def fits(schema: Mapping[str, Any], *, weight: float = 1.0) -> Rule:
    """The value fits a JSON schema; a text is read as JSON first. References to other documents are not followed."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    try:
        kind = validator_for(schema)
        kind.check_schema(schema)
    except (SchemaError, TypeError) as err:
        raise ConfigurationError(f"fits(...): no JSON schema: {getattr(err, 'message', err)}") from err
    validator = kind(schema, registry=Registry())

    def fitting(value: Any, text: str) -> bool:
        try:
            plain = json.loads(text)
        except ValueError:
            if isinstance(value, str):
                return False
            raise
        return bool(validator.is_valid(plain))

    return Rule(f"fits {_short(str(schema.get('title', 'the JSON schema')))}", fitting, weight)


def check(function: Callable[[Any], Any], name: str = "", *, weight: float = 1.0) -> Rule:
    """A callable decides.

    Args:
        function: gets the value, says whether it will do, or how well (0 to 1).
        name: of the rule, by default the function's.
        weight: of the rule.
    """
    called = name or getattr(function, "__name__", type(function).__name__)
    return Rule(called, lambda value, _: function(value), weight)


class RulesScorer:
    """The weighted share of rules that the answer keeps; the reason names those that it does not.

    Args:
        rules: made by `length`, `matches`, `contains`, `lacks`, `fits` and `check`; at least one.
        version: to be changed where a callable does something else now; the names of rules belong to it anyway.

    Raises:
        ConfigurationError: there are no rules, or something else is among them.
    """

    name = "rules"
    made_by = "RulesScorer([length(1, 2000), lacks('as an AI')])"

    def __init__(self, rules: Sequence[Rule], *, version: str = "1") -> None:
        if isinstance(rules, str) or not rules or not all(isinstance(rule, Rule) for rule in rules):
            raise ConfigurationError(f"rules={rules!r:.80} must be a list of rules, for example {self.made_by}")
        self._rules = tuple(rules)
        self.version = version_of([version, [(rule.name, rule.weight) for rule in rules]])

    def __call__(self, context: ScoreContext, /) -> Score:
        """The score.

        Raises:
            NotScorableError: the experience has no answer.
            ScorerError: a rule raised, or said something that is neither yes, no nor a number from 0 to 1.
        """
        value = answer_of(context)
        text = text_of(value)
        kept, broken = 0.0, []
        for rule in self._rules:
            share = _share(rule, value, text)
            kept += share * rule.weight
            if share < 1:
                broken.append(rule.name if share == 0 else f"{rule.name} ({share:g})")
        reason = f"broken: {'; '.join(broken)}" if broken else f"keeps all {len(self._rules)} rules"
        return Score(value=min(1.0, kept / sum(rule.weight for rule in self._rules)), reason=reason)


def _share(rule: Rule, value: Any, text: str) -> float:
    try:
        share = rule.check(value, text)
    except Exception as err:
        raise ScorerError(f"the rule {rule.name!r} failed: {err!r}") from err
    if not isinstance(share, bool | int | float) or not 0 <= share <= 1:
        raise ScorerError(
            f"the rule {rule.name!r} said {share!r:.80}; it must say True, False, or a number from 0 to 1"
        )
    return float(share)


def _within(part: str, text: str, *, case: bool) -> bool:
    return part in text if case else part.casefold() in text.casefold()


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
