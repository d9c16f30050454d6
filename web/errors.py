"""What the page refuses, and why."""

from captioner.errors import CaptionerError


class Refusal(CaptionerError):
    """A request that is not done.

    Attributes:
        status: of HTTP.
        code: one word for scripts.
    """

    def __init__(self, status: int, code: str, message: str, **details):
        super().__init__(message)
        self.status, self.code, self.details = status, code, details


def not_found(what: str = "video") -> Refusal:
    """The refusal of what is not there."""
    return Refusal(404, "not_found", f"There is no such {what}; it may have been deleted.")
