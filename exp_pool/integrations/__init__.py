"""The pool in front of other packages' objects: one module for each package.

In: an object of theirs. Out: the same, answered from the pool. Each needs its package, and nothing here imports it.
May import what stands in api and below.
"""
