"""The Flask application."""

import threading
import time
from contextlib import closing
from http import HTTPStatus
from importlib.metadata import version

from flask import Flask, Response, current_app, g, jsonify, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.routing import RequestRedirect

from . import (  # noqa: F401 (some for their routes)
    api,
    filters,
    library,
    model_routes,
    pages,
    queue,
    security,
    stretches,
)
from .config import WebConfig
from .context import close_db
from .errors import Refusal
from .metrics import Metrics
from .proxies import Proxies
from .store import database, models, moments
from .worker import Worker, load_captioner


def create_app(config: WebConfig | None = None, captioner=None) -> Flask:
    """Makes the application; `captioner serve` puts waitress before it and a worker beside it.

    Args:
        config: where data is kept, and all limits.
        captioner: looks at videos when `flask work` is run, in place of the active model.

    Raises:
        ModelError: the model that `config` names is missing.
    """
    config = config or WebConfig()
    app = Flask(__name__)
    app.extensions["captioner"] = config
    app.extensions["closing"] = threading.Event()  # set when those who listen have to let go
    app.extensions["metrics"] = Metrics(config)
    database.create(config.data)
    with closing(database.connect(config.data)) as db:
        models.add_named(db, config)
        moments.add_named(db, config)
    security.protect(app, config)
    app.wsgi_app = Proxies(app.wsgi_app, config)
    app.before_request(_start_clock)
    app.after_request(_stop_clock)
    app.teardown_appcontext(close_db)
    app.register_error_handler(Refusal, _refuse)
    app.register_error_handler(HTTPException, _refuse)
    app.register_blueprint(pages.pages)
    api.register(app, config, _refuse)
    app.jinja_env.globals["version"] = version("captioner")
    app.jinja_env.filters.update(filters.FILTERS)

    @app.cli.command("work")
    def work():
        """Captions and labels all that waits, then ends."""
        load = load_captioner if captioner is None else lambda *_: captioner
        with Worker(config, load) as worker:
            while worker.step():
                pass

    return app


def _refuse(error: Refusal | HTTPException):
    """An error as JSON for scripts, as a page for people."""
    if isinstance(error, RequestRedirect):
        return error.get_response()
    if isinstance(error, SecurityError):
        # Before a page could be made: its links need the name that is in doubt.
        name = request.headers.get("Host", "")
        text = f"This server does not answer to the name {name!r}; start it with --name NAME.\n"
        return Response(text, 400, mimetype="text/plain")
    details, headers = {}, {}
    if isinstance(error, CSRFError):
        error = Refusal(400, "old_page", "This page is out of date; reload it and try again.")
    if isinstance(error, Refusal):
        status, code, message = error.status, error.code, str(error)
        details = error.details
    else:
        if error.response is not None:
            return error.response
        status = error.code or 500
        code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("'", "")
        message = _MESSAGES.get(status) or error.description
        problems = getattr(error, "data", None) or {}
        if problems.get("messages"):
            code, message = "wrong_value", _in_words(problems["messages"])
        kept = ("Allow", "Content-Range")
        headers = {name: value for name, value in error.get_headers() if name in kept}
    if request.path.startswith("/api/"):
        answer = jsonify(code=code, message=message, **details)
    else:
        answer = current_app.make_response(
            render_template("error.html", status=status, message=message)
        )
    answer.status_code = status
    answer.headers.update(headers)
    return answer


_MESSAGES = {
    404: "There is nothing here; it may have been deleted.",
    405: "This address does not take such a request.",
    413: "This request is too large.",
    500: "Something went wrong that should not have; the server's log says where.",
}


def _in_words(messages: dict) -> str:
    """The messages of marshmallow, `{place: {field: [message]}}`, as a sentence."""
    found = []

    def walk(node, path):
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, [*path, str(key)])
        else:
            text = " ".join(map(str, node)) if isinstance(node, list) else str(node)
            found.append(f"{'.'.join(path[1:]) or path[0]}: {text}")

    walk(messages, [])
    return " ".join(found)


def _start_clock():
    g.started = time.perf_counter()


def _stop_clock(response):
    if "started" in g:
        current_app.extensions["metrics"].observe(
            request.endpoint, response.status_code, time.perf_counter() - g.started
        )
    return response
