"""Who may come in, and what a browser may do with what it gets.

On this machine alone no token is needed, but a page of somebody else in the same browser must
neither read nor change anything: names that lead here by trick (DNS rebinding) are not answered,
and what changes something needs a CSRF token wherever a browser asks. Scripts send no Origin and
no cookie; beyond this machine they send the token instead.
"""

import hmac
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, current_app, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask_wtf import CSRFProtect
from flask_wtf.csrf import CSRFError
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from .config import LOOPBACK, WebConfig
from .context import get_db
from .errors import Refusal
from .store import sessions

csrf = CSRFProtect()
_PUBLIC = {"static", "pages.login", "pages.log_in", "api.health"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


def protect(app: Flask, config: WebConfig) -> None:
    """Puts guards before every request and headers on every answer."""
    app.config.update(
        WTF_CSRF_SSL_STRICT=False,  # it compares with the Host that a proxy may have changed
        SECRET_KEY=_secret_key(config.data / "secret_key"),
        SESSION_COOKIE_NAME=f"captioner_{config.port}",  # cookies know of no ports
        SESSION_COOKIE_SAMESITE="Lax",  # so that a link from elsewhere finds the session
        SESSION_COOKIE_HTTPONLY=True,
        TRUSTED_HOSTS=[*LOOPBACK, "[::1]", *config.names] if config.is_local else None,
        WTF_CSRF_CHECK_DEFAULT=False,  # `_guard` knows better which requests to check
        WTF_CSRF_TIME_LIMIT=None,
        MAX_CONTENT_LENGTH=config.max_piece,
    )
    app.session_interface = _SecureOverHttps()
    csrf.init_app(app)
    app.extensions["rates"] = MovingWindowRateLimiter(MemoryStorage())
    app.before_request(_guard)
    app.after_request(_add_headers)


def count(what: str, rate: str) -> None:
    """Counts something against the rate that one address may do it at.

    Raises:
        Refusal: 429.
    """
    check(what, rate)
    current_app.extensions["rates"].hit(parse(rate), what, request.remote_addr or "")


def check(what: str, rate: str) -> None:
    """Refuses what `count` would refuse, without counting."""
    if not current_app.extensions["rates"].test(parse(rate), what, request.remote_addr or ""):
        raise Refusal(429, "too_fast", "Too many requests; wait a minute, then try again.")


def let_in(token: str) -> bool:
    """Opens the session if the token is right."""
    if not _is_right(token):
        return False
    session.clear()
    session["pass"] = _pass()
    session["id"] = sessions.begin(get_db())
    return True


def log_out() -> None:
    """Ends the session, also for whoever kept a copy of its cookie."""
    sessions.end(get_db(), session.get("id", ""))
    session.clear()


def is_page_of_ours(path: str) -> bool:
    """Whether a path from elsewhere leads to a page here, whatever browsers make of it."""
    parts = urlsplit(path)
    return (
        path.startswith("/")
        and not path.startswith("//")
        and "\\" not in path
        and path.isprintable()  # browsers drop tabs and line breaks
        and not parts.scheme
        and not parts.netloc
    )


class _SecureOverHttps(SecureCookieSessionInterface):
    """Cookies that came over https never go over http."""

    def get_cookie_secure(self, app):
        return request.is_secure


def _guard():
    config: WebConfig = current_app.extensions["captioner"]
    scripted = False
    if config.token:
        given = request.authorization
        if given is not None and given.type == "bearer":
            scripted = _is_right(given.token or "")
            if not scripted:
                raise _unauthorized("This token is wrong.")
        elif request.endpoint not in _PUBLIC and not _is_logged_in():
            if request.path.startswith("/api/") and "Sec-Fetch-Site" in request.headers:
                raise _unauthorized("You are logged out.")  # said by the page, with a link
            if request.path.startswith("/api/"):
                raise _unauthorized("A token is needed: send 'Authorization: Bearer TOKEN'.")
            return redirect(url_for("pages.login", next=request.full_path.rstrip("?")))
    if request.method in ("GET", "HEAD", "OPTIONS") or scripted:
        return None
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    foreign = Refusal(403, "cross_site", "This request came from another site, and was not done.")
    if site not in (None, "same-origin", "none"):
        raise foreign
    if origin is not None or request.cookies or site is not None:
        try:
            csrf.protect()
        except CSRFError as err:
            # A proxy may pass on another Host, so it alone proves nothing.
            if origin is not None and urlsplit(origin).netloc != request.host and site is None:
                raise foreign from err
            raise
    return None


def _is_logged_in() -> bool:
    return session.get("pass") == _pass() and sessions.is_open(get_db(), session.get("id", ""))


def _is_right(token: str) -> bool:
    config: WebConfig = current_app.extensions["captioner"]
    check("login", config.login_rate)
    right = hmac.compare_digest(token.encode(), (config.token or "").encode())
    if not right:
        count("login", config.login_rate)
    return right


def _pass() -> str:
    """What a session carries: shows that the token was known, and tells nothing of it."""
    config: WebConfig = current_app.extensions["captioner"]
    key = current_app.config["SECRET_KEY"].encode()
    return hmac.digest(key, (config.token or "").encode(), "sha256").hex()


def _unauthorized(message):
    return Refusal(401, "unauthorized", message)


def _add_headers(response):
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if response.status_code == 429:
        response.headers.setdefault("Retry-After", "10")
    return response


def _secret_key(path: Path) -> str:
    """The key of cookies, the same after a restart."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text()
