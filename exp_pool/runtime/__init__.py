"""Clock, threads, forks, files, warnings, call context: nothing about experiences.

In and out: plain values and callables.
May import `exp_pool.errors` only.
"""
