"""In a source tree ``exp_pool.scorers`` is the folder ``scorers/`` at the top; a wheel has its files in this place."""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "scorers")]
