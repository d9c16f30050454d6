"""Servers that run while a test does."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace

from web import create_app
from web.server import make_server
from web.supervisor import Supervisor

from .fakes import COMMANDS, WORKER


def wait(until, seconds=20):
    """Waits until it is so."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def serving(config, worker=WORKER, commands=COMMANDS):
    """Serves the page, with a worker and a teacher beside it; gives its address."""
    with listening(config) as server, Supervisor(config, worker, commands):
        yield f"http://127.0.0.1:{server.effective_port}"


@contextmanager
def listening(config):
    """waitress on a free port, with the page and nothing beside it."""
    config = replace(config, port=0)
    app = create_app(config)
    server = make_server(app, config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        app.extensions["closing"].set()
        server.task_dispatcher.shutdown()
        server.trigger.pull_trigger(lambda: _close(server))  # in its own thread, which then ends
        thread.join(20)
        assert not thread.is_alive()
        server.trigger.close()


def _close(server):
    for channel in [*server._map.values()]:
        if channel is not server.trigger:  # another thread may be about to write to it
            channel.close()
    server._map.clear()
