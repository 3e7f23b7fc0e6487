"""Clock, threads, forks, files, notices: nothing about experiences.

In and out: plain values and callables.
May import `exp_pool.errors` only.
"""
