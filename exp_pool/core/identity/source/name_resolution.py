"""Name resolution: finds which statement of which module of the project binds a name.

It follows imports from module to module, and collects source text and bindings for the digest of a function.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from exp_pool.core.identity.names import in_library
from exp_pool.core.identity.source.bindings import bindings_of
from exp_pool.core.identity.source.functions import BY_CODE
from exp_pool.core.identity.source.modified_files import is_what_runs
from exp_pool.core.identity.source.text import module_named, text_of, trees_of

_IMPORTS = 20  # from where it was imported from, and so on


class Binding(NamedTuple):
    """A name of a module, and what it was bound to when it was looked at. `literal`: it is part of the digest."""

    namespace: Mapping[str, Any]
    name: str
    value: Any
    literal: bool


@dataclass
class CollectedSource:
    """Source text that was collected for a function: pieces by label, and the bindings on which they depend."""

    pieces: dict[str, str] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)

    def digest(self) -> str:
        """The digest of the pieces; empty where there are none."""
        if not self.pieces:
            return ""
        told = "\n".join(f"{name}\t{piece}" for name, piece in sorted(self.pieces.items()))
        mark = f"code{sys.version_info[0]}.{sys.version_info[1]}" if BY_CODE in told else "1"
        return f"{mark}:{hashlib.sha256(told.encode()).hexdigest()[:32]}"


class NameLookup:
    """Resolves names in modules of the project, and collects what one function's digest is made of.

    Args:
        function: where it begins; what is of its package, or of no library, is its own project's.
        texts: what the files held when it was decorated.
    """

    def __init__(self, function: types.FunctionType, texts: Mapping[str, str | None]) -> None:
        self.texts = texts
        self.home = function.__globals__
        self.found = CollectedSource()
        self.edited = False  # a text was read that is not what this process runs
        self._compared: set[int] = set()

    def bindings(
        self, name: str, namespace: dict[str, Any]
    ) -> tuple[dict[str, Any], list[ast.expr | ast.stmt], bool, bool]:
        """Where a name is bound, in this module or in that of the project from which it was imported.

        Returns:
            The globals of that module; the expressions, or statements, that bind it; whether it counts or is filled;
            whether functions bind it anew.
        """
        for _ in range(_IMPORTS):
            module: types.ModuleType | None = None
            for tree in self.trees(namespace):
                bindings = bindings_of(tree)
                found, imported = bindings.bound(name), bindings.imported.get(name)
                if found and (imported is None or imported[2] == ""):
                    return namespace, found, name in bindings.counted, name in bindings.rebound
                if imported is not None and imported[2]:
                    module = module_named(imported[0], imported[1], namespace)
                    name = imported[2]
                    break
                stars = (module_named(of, level, namespace) for of, level in bindings.stars)
                module = next((each for each in stars if each is not None and name in vars(each)), None)
                if module is not None:
                    break
            if module is None or not self.ours(vars(module)):
                break
            namespace = vars(module)
        return namespace, [], False, False

    def is_unexplained(self, name: str, namespace: dict[str, Any]) -> bool:
        """Whether no text says where a name comes from: of ``python -c``, of ``exec``."""
        every = map(bindings_of, self.trees(namespace))
        return not any(name in each.imported or each.stars or name in each.rebound for each in every)

    def trees(self, namespace: dict[str, Any]) -> Iterable[ast.Module]:
        """What a module is written in: its file; of a notebook all cells, the newest first."""
        self.compare(namespace)
        return trees_of(namespace, self.texts.get(str(namespace.get("__file__"))))

    def compare(self, namespace: dict[str, Any]) -> None:
        """Note whether the text of a module is what this process runs."""
        if id(namespace) in self._compared:
            return
        self._compared.add(id(namespace))
        file = namespace.get("__file__")
        kept = self.texts.get(str(file))
        text = text_of(file, namespace) if kept is None and isinstance(file, str) else kept
        self.edited = self.edited or not (text is None or is_what_runs(namespace, text, kept=kept is not None))

    def bound(self, namespace: dict[str, Any], name: str, value: Any, *, literal: bool = False) -> None:
        """Remember what a name is bound to now.

        Args:
            namespace: the globals of its module.
            name: the name.
            value: what it is bound to.
            literal: the value is part of the digest.
        """
        self.found.bindings.append(Binding(namespace, name, value, literal))

    def label(self, namespace: Mapping[str, Any], name: str) -> str:
        """A name in its module; the function's own module has no name here, as it may run as a script."""
        return name if namespace is self.home else f"{namespace.get('__name__')}:{name}"

    def ours(self, namespace: Mapping[str, Any]) -> bool:
        """Whether a module is of the function's project: of its package, or of no library."""
        if namespace is self.home:
            return True
        package = str(namespace.get("__name__")).partition(".")[0]
        if package == "exp_pool":
            return False
        in_package = package == str(self.home.get("__name__")).partition(".")[0]
        return in_package or not in_library(namespace.get("__file__"))
