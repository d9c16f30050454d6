"""The browser's way in: drop a video, get its caption, correct it, teach it."""

__all__ = ["create_app"]


def __getattr__(name):
    # The command line loads this package for its verbs, and does not wait for Flask.
    if name == "create_app":
        from .app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
