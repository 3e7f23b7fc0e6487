"""Record stores. Each engine is one file or folder behind `RecordStore`; json builds on sql, and null on memory.

Other than that, no engine imports another.

In: rows, conditions, leases, named states. Out: the same, as they were written.
May import core and runtime.
"""
