"""HTTP connections that go only where they may, and end when the time is up. Nothing here knows of tasks."""

import os
import socket
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util.connection import create_connection

# Scheme, host and port → the IP addresses to connect to, or an error of our own.
AddressCheck = Callable[[str, str, int], list[str]]

_CONNECTIONS_KEPT = 32


class CheckedAdapter(HTTPAdapter):
    """Connects only to addresses that `check` has given; keeps its connections.

    The check is made by the connection itself, so that nothing can stand between the name that was resolved
    and the address that is connected to. It never uses a proxy.
    """

    def __init__(self, check: AddressCheck) -> None:
        self._check = check
        super().__init__(pool_maxsize=_CONNECTIONS_KEPT)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Makes the pools that requests uses, with our connections in them."""
        super().init_poolmanager(*args, **kwargs)
        check = self._check

        class Plain(_CheckedConnection):
            _check = staticmethod(check)

        class Encrypted(_CheckedConnection, HTTPSConnection):
            _check = staticmethod(check)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}


class Watchdog:
    """Ends what this thread's connection is doing when the time is up, be it a handshake or a slow header.

    A timeout of a socket is one for each read: a server that sends a byte now and then never meets it.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._bite)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._guarded: socket.socket | None = None
        self.has_bitten = False

    def __enter__(self) -> "Watchdog":
        self._timer.start()
        self._outer = _watchdog.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _watchdog.reset(self._outer)
        self.guard(None)

    def guard(self, connection: socket.socket | None) -> None:
        """From now on it is this connection that is ended.

        It is held by a handle of our own: TLS takes the given one away while it shakes hands, and an answer
        that ends with its connection is read after that has been closed.
        """
        handle = socket.socket(fileno=os.dup(connection.fileno())) if connection is not None else None
        with self._lock:
            before, self._guarded = self._guarded, handle
            if self.has_bitten:
                _shut_down(handle)
        if before is not None:
            before.close()

    def _bite(self) -> None:
        with self._lock:
            self.has_bitten = True
            _shut_down(self._guarded)


_watchdog: ContextVar[Watchdog | None] = ContextVar("watchdog", default=None)


class _CheckedConnection(HTTPConnection):
    _check: AddressCheck

    def _new_conn(self) -> socket.socket:
        scheme = "https" if isinstance(self, HTTPSConnection) else "http"
        failure: OSError | None = None
        for address in self._check(scheme, self.host, self.port):
            try:
                connected = create_connection(
                    (address, self.port), self.timeout, socket_options=self.socket_options
                )
            except OSError as error:
                failure = error
                continue
            _show_to_watchdog(connected)
            return connected
        raise NewConnectionError(self, "cannot be reached") from failure

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Sends the request; a connection that was kept is guarded, too."""
        if self.sock is not None:
            _show_to_watchdog(self.sock)
        super().request(*args, **kwargs)


def _show_to_watchdog(connection: socket.socket) -> None:
    watchdog = _watchdog.get()
    if watchdog is not None:
        watchdog.guard(connection)


def _shut_down(connection: socket.socket | None) -> None:
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended by itself
