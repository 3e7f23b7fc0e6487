"""A request to one of several model endpoints, and to the next one if that fails. `router` tells how.

::

    endpoints = [
        ModelEndpoint("gpt-4", "https://api.openai.com/v1/chat/completions", max_concurrent=5),
        ModelEndpoint("claude-3", "https://api.anthropic.com/v1/messages", max_concurrent=3, priority=1),
    ]
    async with ConcurrentRouter(endpoints) as router:
        answer = await router.route_request("What is an experience pool?", preferred_model="gpt-4")
        answer["model"], answer["response"], answer["latency_s"], answer["attempts"]
        async for text in router.stream_request("And a cache?"):
            print(text, end="")

It stands by itself: a decorated function may call a router, and the pool knows nothing of it. Needs httpx
(``pip install 'exp_pool[routing]'``).
"""

from exp_pool.errors import AllModelsFailed, EndpointError
from exp_pool.routing.adapters import ADAPTERS
from exp_pool.routing.adapters.contract import Adapter, ModelRequest, Outgoing, Reply
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.endpoint_call import Attempt
from exp_pool.routing.router import ConcurrentRouter
from exp_pool.routing.strategies import STRATEGIES, Candidate, Load, Strategy
from exp_pool.routing.stream import RoutedStream

__all__ = [
    "ADAPTERS",
    "STRATEGIES",
    "Adapter",
    "AllModelsFailed",
    "Attempt",
    "Candidate",
    "ConcurrentRouter",
    "EndpointError",
    "Load",
    "ModelEndpoint",
    "ModelRequest",
    "Outgoing",
    "Reply",
    "RoutedStream",
    "Strategy",
]
