"""Texts that a filter language could take for its own: for every place of an index or a store where text can stand."""

import random

ODD = ["'", '"', "\\", "$", "$and", "$ne", "*", "%", "_", "\0", "\ud800", "{x}", "' or 1 == 1 or '", '" or id != "']
ODD += ["like 'a%'", "x:00", "", " ", "../..", "é" * 300, "\n", "🐍", "in [", ") or (", "a" * 5000, "null", "true", "1"]
PARTS = random.Random(5)
HOSTILE = list(dict.fromkeys([*ODD, *("".join(PARTS.choices(ODD[:24], k=3)) for _ in range(800))]))[:500]
