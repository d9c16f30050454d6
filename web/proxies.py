"""What a proxy in front says of a visitor: address, https, and the path that it put the page at.

It is believed from the addresses of `WebConfig.proxies` alone. `X-Forwarded-Host` is believed from
nobody: a page whose name was made to lead here (DNS rebinding) can send that header, but no false
`Host`, which is what `security` checks.
"""

from werkzeug.middleware.proxy_fix import ProxyFix

from .config import WebConfig


class Proxies:
    """WSGI middleware before the application."""

    def __init__(self, wsgi_app, config: WebConfig):
        self._wsgi_app, self._proxies = wsgi_app, config.proxies
        self._behind_proxy = ProxyFix(wsgi_app, x_for=1, x_proto=1, x_host=0, x_prefix=1)

    def __call__(self, environ, start_response):
        is_proxy = environ.get("REMOTE_ADDR") in self._proxies
        return (self._behind_proxy if is_proxy else self._wsgi_app)(environ, start_response)
