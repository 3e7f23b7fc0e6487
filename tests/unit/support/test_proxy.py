"""The proxy with which other tests break connections does what it says; against a small echo server."""

import socket
import socketserver
import threading

import pytest
from support.servers import until
from support.servers.proxy import Proxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    block_on_close = True

    def handle_error(self, request, client_address):
        """A cut connection is no news here."""


@pytest.fixture
def echo():
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo):
    with Proxy(echo) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy):
    made = []

    def connect():
        made.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=10))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def everything(connection):
    return b"".join(iter(lambda: connection.recv(1), b""))


def is_at_its_end(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def say(connection, text):
    connection.sendall(text)
    return b"".join(connection.recv(1) for _ in text)


def test_it_passes_everything_on_both_ways(connect):
    large = bytes(range(256)) * 8192  # more than any buffer
    connection = connect()
    sender = threading.Thread(target=connection.sendall, args=(large,))
    sender.start()
    received = bytearray()
    while len(received) < len(large):
        received += connection.recv(1 << 16)
    sender.join()
    assert bytes(received) == large


def test_its_url_is_the_servers_but_for_the_port(echo, proxy):
    with Proxy("postgresql://me:secret@127.0.0.1:1/name?sslmode=disable") as other:
        assert other.url == f"postgresql://me:secret@127.0.0.1:{other.port}/name?sslmode=disable"
    assert proxy.url == f"redis://127.0.0.1:{proxy.port}/0"


def test_cut_ends_what_is_open_and_nothing_else(proxy, connect):
    first, second = connect(), connect()
    assert say(first, b"a") + say(second, b"b") == b"ab"
    proxy.cut()
    assert proxy.connections == 0
    assert is_at_its_end(first) and is_at_its_end(second)
    assert say(connect(), b"c") == b"c"


def test_cut_after_lets_exactly_the_first_part_of_a_reply_through(proxy, connect):
    connection = connect()
    proxy.cut_after(5)
    connection.sendall(b"0123456789")
    assert everything(connection) == b"01234"
    assert proxy.cuts == 1
    assert say(connect(), b"0123456789") == b"0123456789"


def test_cut_after_counts_over_all_connections(proxy, connect):
    quiet, unlucky = connect(), connect()
    proxy.cut_after(5)
    assert say(quiet, b"012") == b"012"
    unlucky.sendall(b"3456")
    assert everything(unlucky) == b"34"
    assert say(quiet, b"still here") == b"still here"


def test_cut_after_again_and_again_until_taken_back(proxy, connect):
    proxy.cut_after(3, again=True)
    for _ in range(3):
        connection = connect()
        connection.sendall(b"0123456789")
        assert everything(connection) == b"012"
    proxy.never_cut()
    assert say(connect(), b"0123456789") == b"0123456789"
    assert proxy.cuts == 3


def test_refuse_is_for_new_connections_only(proxy, connect):
    old = connect()
    assert say(old, b"a") == b"a"
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert say(old, b"b") == b"b"
    proxy.accept()
    assert say(connect(), b"c") == b"c"


def test_delay_holds_back_until_cut(proxy, connect):
    connection = connect()
    assert say(connection, b"a") == b"a"
    proxy.delay = 3600
    connection.sendall(b"b")
    connection.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    proxy.cut()
    connection.settimeout(10)
    assert is_at_its_end(connection)


def test_a_dead_server_ends_the_clients_connection(connect, proxy):
    with Proxy("redis://127.0.0.1:1/0") as nobody, socket.create_connection(("127.0.0.1", nobody.port)) as connection:
        assert is_at_its_end(connection)


def test_it_leaves_no_thread_and_no_connection(echo):
    before = threading.active_count()
    with Proxy(echo) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            assert say(connection, b"a") == b"a"
            assert proxy.connections == 1
        until(lambda: proxy.connections == 0, "the client's end reaches the proxy")
    until(lambda: threading.active_count() <= before, "its threads are gone")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
