"""Which namespace something belongs to: the one that is named, else the surrounding one, else the manager's."""

from __future__ import annotations

from exp_pool.errors import InvalidInputError, NamespaceError
from exp_pool.runtime.call_context import current_namespace


class Namespaces:
    """The namespaces of one manager.

    Args:
        default: the manager's own.
        required: whether one has to be named, so that the manager's own is never meant.
    """

    def __init__(self, default: str, *, required: bool) -> None:
        self._default, self._required = default, required

    def of(self, given: str | None = None) -> str:
        """The namespace that is meant here, where this one is named, or none.

        Raises:
            InvalidInputError: the name is empty or no text.
            NamespaceError: none is named, and one has to be.
        """
        if given is not None and (not isinstance(given, str) or not given):
            raise InvalidInputError(f"namespace={given!r} must be text, not empty")
        named = given or current_namespace()
        if named is None and self._required:
            raise NamespaceError(
                "no namespace is named here, and require_namespace is on: ask inside `with in_namespace(...)`, give "
                "namespace= where it is taken, or the experience its namespace"
            )
        return named or self._default
