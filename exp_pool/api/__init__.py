"""What users hold: the decorator, the manager and its pool, what is asked of them.

In: functions to decorate, queries, changes. Out: answers, experiences, reports. Each call is told by `exp_pool.calls`.
May import everything but the edges (snapshots, curation, routing, retrieval, evaluation, integrations, testing, cli).
"""
