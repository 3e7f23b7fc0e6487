"""``redis://``, ``rediss://``, ``redis+cluster://``: a pool in Redis, and a cache tier before another store.

`store` says how rows and the listing of rows stay consistent.
"""

from exp_pool.errors import ConfigurationError
from exp_pool.runtime.plugs import to_install

try:
    import redis  # noqa: F401
except ImportError as err:
    raise ConfigurationError(f"redis:// needs redis: {to_install('redis')}") from err
