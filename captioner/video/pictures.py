"""Reading of pictures -> pixels as a person sees them: upright, on white where transparent."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..errors import VideoError
from .pixels import check_pixels, reduction_of

# What Pillow reads in this process and by content alone; it would start other programs for some.
_FORMATS = "JPEG PNG GIF WEBP TIFF BMP AVIF JPEG2000 ICO QOI SGI SUN".split()
# Pictures that may move.
_MAY_MOVE = {"GIF", "PNG", "AVIF", "WEBP"}
_FULL = [(1 << bits) - 1 for bits in (8, 10, 12, 14, 16)]
_TIFF = (b"II*\0", b"MM\0*")
_END_AND_BEGIN = b"\xff\xd9\xff\xd8\xff"  # of one JPEG, and of the next
_lock = Lock()


def is_still(path: str | os.PathLike, head: bytes) -> bool:
    """Tells by its content whether a file is a picture that stands still.

    Args:
        path: the file.
        head: its first bytes, four at least.
    """
    try:
        with _opened(path) as image:
            if image.format in _MAY_MOVE:
                return not getattr(image, "is_animated", False)
            return image.format != "JPEG" or not _is_chain_of_jpegs(path)
    except Image.UnidentifiedImageError:
        return head.startswith(_TIFF)
    except OSError:  # of a known kind, but damaged, as reading it will say
        return True


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture: RGB, uint8, `(height, width, 3)`.

    A JPEG that is too large is read at a half, a quarter or an eighth of its size.

    Raises:
        VideoError: it is damaged, cut off, too large or of an unknown kind.
    """
    try:
        with _opened(path) as image:
            width, height = image.size
            reduction = reduction_of(width, height)
            if (reduction or 1) > 1 and image.format in ("JPEG", "MPO"):
                image.draft(None, (width // reduction, height // reduction))
            check_pixels(path, *image.size)
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except (VideoError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        return _read_by_opencv(path)
    except Exception as err:  # Pillow's readers raise all kinds of errors over damaged files
        raise VideoError(
            f"{path}: this picture is damaged or not all there ({err}); copy it again, or open it "
            "elsewhere and save it as JPEG"
        ) from err


def to_rgb(image: Image.Image) -> np.ndarray:
    """What Pillow has opened, as a person sees it: RGB, uint8, `(height, width, 3)`."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float64).clip(0)
        most = grey.max(initial=0)  # 16 or 32 bits may hold 8, or the 12 of a camera
        grey *= 255 / next((full for full in _FULL if most <= full), most)
    elif image.mode == "F":  # from 0 to 1, or to 255
        grey = np.nan_to_num(np.asarray(image)).clip(0)
        grey = grey * (255 if grey.max(initial=0) <= 1 else 1)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.array(image.convert("RGB"))
    else:
        return np.array(image.convert("RGB"))
    grey = grey.clip(0, 255).round().astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _read_by_opencv(path) -> np.ndarray:
    """TIFF of several bands of more than 8 bits, which Pillow does not know."""
    with _quiet():
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise VideoError(
            f"{path}: a picture of a kind that is not known here; save it as JPEG or PNG"
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _is_chain_of_jpegs(path) -> bool:
    """A film as some cameras send it, and no photo with a smaller one of it behind."""
    with open(path, "rb") as file:
        file.seek(2)
        tail, found = b"", 0
        while block := file.read(1 << 20):
            found += (tail + block).count(_END_AND_BEGIN)
            tail = block[1 - len(_END_AND_BEGIN) :]
        return found > 1


@contextmanager
def _opened(path) -> Iterator[Image.Image]:
    with _quiet(), open(path, "rb") as file, Image.open(file, formats=_FORMATS) as image:
        yield image


@contextmanager
def _quiet() -> Iterator[None]:
    """libtiff writes to file descriptor 2 past every setting, so that is turned away.

    This, and Pillow's own limit of pixels, hold for the whole process, hence only for the
    milliseconds that a picture takes.
    """
    with _lock, warnings.catch_warnings(), open(os.devnull, "wb") as nowhere:
        warnings.simplefilter("ignore")
        kept, most = os.dup(2), Image.MAX_IMAGE_PIXELS
        os.dup2(nowhere.fileno(), 2)
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = most
            os.dup2(kept, 2)
            os.close(kept)
