"""What performs the steps of `exp_pool.calls.flow` for each kind of function: plain, coroutine, generators, batches.

In: a flow, the function and its arguments. Out: what the function returns, or what the pool answers in its place.
May import what stands in calls, search, stores, core and runtime. `services` are the parts of the pool that steps use.
"""
