"""Where experiences live. Each engine is one file or folder behind `RecordStore`; none imports another.

In: rows, conditions, leases, named states. Out: the same, as they were written.
May import core and runtime.
"""
