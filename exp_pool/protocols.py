"""What a plug must offer. Whoever writes a store, an index, an embedder, a judge, a scorer or a codec imports this.

The contracts stand in `exp_pool.core.contracts`: `plugs`, `stores` and the `rows` that they speak of.
"""

from exp_pool.core.contracts import plugs
from exp_pool.core.contracts.plugs import *  # noqa: F403  (all that it lists in `__all__`)
from exp_pool.core.experience import MISSING, Experience, Score
from exp_pool.core.results import Hit

__all__ = ["MISSING", "Experience", "Hit", "Score"]
__all__ += plugs.__all__
