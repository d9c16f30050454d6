"""What the owner of a server may set."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from captioner.model_folder import DEFAULT_MODEL

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def default_data() -> Path:
    """Where videos and captions are kept unless told otherwise."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "captioner"


@dataclass(frozen=True)
class WebConfig:
    """How the page is served, and its limits.

    Attributes:
        data: the folder of all videos, captions and models.
        model: a name or a model folder, used when it is named for the first time; others may be
            taught and adopted.
        label_model: the folder of a model that labels moments, as `captioner moments train`
            writes it; None: videos are captioned only.
        host: the address to listen at.
        port: likewise; 0 takes a free one.
        names: what the page may be called besides this machine's own names, by a proxy in front.
        proxies: addresses of proxies whose word on a visitor is taken.
        watch: folders on this machine; what appears in them is captioned where it lies.
        watch_seconds: between two looks into them.
        token: what has to be told to be let in; None lets everyone in, on this machine only.
        max_size: of one video, bytes.
        max_piece: of one piece of an upload, bytes.
        max_videos: how many may be kept.
        max_uploads: how many may be unfinished at once.
        max_storage: of all videos and previews, bytes; when it is reached, the oldest videos that
            nobody corrected are deleted. None: no limit.
        min_free: disk space that uploads leave free, bytes.
        keep_days: older videos that nobody corrected are deleted; None keeps them.
        bin_days: how long deleted videos can be put back; 0: they are gone at once.
        upload_rate: of new uploads from one address, as Flask-Limiter writes it.
        login_rate: of wrong tokens from one address, likewise.
        num_captions: candidates shown of each video.
        job_seconds: how long one video may take.
        job_memory: how much address space one video may take, bytes.
        preview_size: of the preview of a video that browsers do not play, bytes; where this or one
            of the next two is reached, it ends.
        preview_length: of a preview, seconds.
        preview_seconds: how long making one may take.
    """

    data: Path = field(default_factory=default_data)
    model: str = DEFAULT_MODEL
    label_model: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    watch: tuple[str, ...] = ()
    watch_seconds: float = 5.0
    token: str | None = field(default=None, repr=False)
    max_size: int = 4 * 10**9
    max_piece: int = 8 * 2**20
    max_videos: int = 10_000
    max_uploads: int = 1_000
    max_storage: int | None = None
    min_free: int = 10**9
    keep_days: float | None = None
    bin_days: float = 7.0
    upload_rate: str = "600 per minute"
    login_rate: str = "10 per minute"
    num_captions: int = 5
    job_seconds: float = 1800.0
    job_memory: int = 8 * 2**30
    preview_size: int = 250 * 10**6
    preview_length: float = 7200.0
    preview_seconds: float = 900.0

    def __post_init__(self):
        for name in "max_size max_piece max_videos max_uploads num_captions job_seconds".split():
            if getattr(self, name) <= 0:
                raise ValueError(f"expected {name} > 0, received: {name}={getattr(self, name)!r}")
        if not self.is_local and not self.token:
            raise ValueError(f"expected a token beyond this machine, received: host={self.host!r}")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK
