"""What was found of a function, from which its digest is made."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from exp_pool.core.identity.source.compiled import BY_CODE


class Binding(NamedTuple):
    """A name of a module, and what it was bound to when it was looked at. `literal`: it is part of the digest."""

    namespace: Mapping[str, Any]
    name: str
    value: Any
    literal: bool


@dataclass
class Found:
    """What was found of a function: pieces by names of their own, and the bindings that they depend on."""

    pieces: dict[str, str] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)

    def digest(self) -> str:
        """The digest of the pieces; empty where there are none."""
        if not self.pieces:
            return ""
        told = "\n".join(f"{name}\t{piece}" for name, piece in sorted(self.pieces.items()))
        mark = f"code{sys.version_info[0]}.{sys.version_info[1]}" if BY_CODE in told else "1"
        return f"{mark}:{hashlib.sha256(told.encode()).hexdigest()[:32]}"
