"""Milvus Lite served by a process of its own: what stands for a Milvus server where there is none."""

import contextlib
import importlib.util
import socket
import sys

from support.servers.process import Server

# pymilvus asks every 10 s whether the server is there. Milvus allows that; gRPC in Python, which serves Milvus Lite, by
# default ends the connection as an attack after a minute.
_SERVE = """
import grpc, sys
from milvus_lite.adapter.grpc.server import run_server
serve = grpc.server
grpc.server = lambda pool, options: serve(pool, options=[*options, ("grpc.http2.max_ping_strikes", 0)])
run_server(*sys.argv[1:])
"""


def is_installed():
    return all(importlib.util.find_spec(package) for package in ("pymilvus", "milvus_lite"))


class Milvus(Server):
    """What it acknowledges survives a kill."""

    @property
    def url(self):
        return f"milvus://127.0.0.1:{self.port}"

    def command(self):
        return [sys.executable, "-c", _SERVE, self.folder / "data", "127.0.0.1", str(self.port)]

    def ping(self):
        from pymilvus import MilvusClient

        socket.create_connection(("127.0.0.1", self.port), 5).close()  # refused, gRPC would wait a second to try again
        with contextlib.closing(MilvusClient(f"http://127.0.0.1:{self.port}", timeout=5)) as client:
            client.list_collections(timeout=5)
