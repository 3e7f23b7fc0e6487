"""What happens off the caller's path: embedding, indexing, scoring, counting, eviction, the doctor.

In: rows with something still pending. Out: the same rows, done. `worker` runs it all.
May import calls, search, stores, reuse, core and runtime.
"""
