"""``redis://``, ``rediss://``, ``redis+cluster://``: a pool in Redis, and a front tier before another store.

`store` tells how rows and their listing stay one.
"""

from exp_pool.errors import ConfigurationError
from exp_pool.runtime.plugs import to_install

try:
    import redis  # noqa: F401
except ImportError as err:
    raise ConfigurationError(f"redis:// needs redis: {to_install('redis')}") from err
