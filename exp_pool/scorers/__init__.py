"""The scorers, in a source tree: they stand in ``scorers/`` beside this package, and are installed in this place."""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "scorers")]
