"""Performs the steps of `exp_pool.calls.flow` for each kind of function: plain, coroutine, generators, batches.

In: a flow, the function and its arguments. Out: what the function returns, or what the pool answers in its place.
May import what stands in calls, search, stores, core and runtime.

- `sync`, `aio`: the drivers of plain and of coroutine functions; `streams`, `aio_streams`: of generators.
  `batch`: functions with `batch=`, of both kinds.
- `services`: the parts of the pool that steps need, and how those steps are performed that all drivers share.
- `run`: one run of the function. `refinement`: the better function beside it. `early_renewal`: runs in the background.
- `single_flight`, `leases`: identical calls run once, in this process and over processes.
  `stream_buffer`: what is shared of a running stream.
- `judge`: asks a judge, with a time-out.
"""
