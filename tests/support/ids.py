"""Names of parametrised tests that are the same in every process, so that several can share the work."""

import re


def named(value):
    """What it looks like, without addresses, and not too long."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} of {len(value)}"  # the order of its texts is another one each time
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:60]
    except ValueError:  # an integer that is too long to be written
        return type(value).__name__
