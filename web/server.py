"""waitress in front, the page behind it, the worker beside it."""

import logging
import os
import signal
import sqlite3
import sys

import waitress

from captioner.errors import CaptionerError

from . import create_app
from .config import WebConfig
from .supervisor import Supervisor

_THREADS = 16  # of which `pages.events` may hold eight
_SLOWEST = 120  # seconds without a byte before a connection is given up


def make_server(app, config: WebConfig):
    """A waitress server for the application; it reads requests before it takes a thread."""
    return waitress.create_server(
        app,
        host=config.host,
        port=config.port,
        threads=_THREADS,
        channel_timeout=_SLOWEST,
        connection_limit=500,
        max_request_body_size=config.max_piece + 2**16,
        max_request_header_size=2**18,
        clear_untrusted_proxy_headers=False,  # `proxies` knows whom to trust
        ident=None,
    )


def serve(config: WebConfig) -> None:
    """Serves until interrupted or terminated.

    Raises:
        CaptionerError: the data folder cannot be written, the address is taken, or there is no
            such model.
    """
    os.umask(0o077)  # what is kept is for its owner's eyes alone
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no news
    try:
        app = create_app(config)
    except (OSError, sqlite3.OperationalError) as err:
        raise CaptionerError(f"{config.data}: cannot be written ({err}); name another") from err
    try:
        server = make_server(app, config)
    except OSError as err:
        raise CaptionerError(
            f"{config.host}, port {config.port}: {err.strerror}; choose another --host or --port"
        ) from err

    def stop(*_):
        app.extensions["closing"].set()
        raise KeyboardInterrupt  # which waitress takes for the end

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with Supervisor(config):
        host = f"[{config.host}]" if ":" in config.host else config.host
        print(f"captioner is at http://{host}:{server.effective_port}/", file=sys.stderr)
        try:
            server.run()
        finally:
            server.close()
