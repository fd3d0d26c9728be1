"""One picture from a file, as pixels: whatever Pillow reads safely, the right way up. Needs the
extra ``jaxcnn[train]``, for Pillow.

A file is decoded as one of FORMATS, by what is in it and not by its name, whatever else Pillow
could make of it; of an animation the first picture counts. Photographs are turned as their EXIF
says. What is transparent is laid on a background. Of 16 bits a channel the upper 8 count. Grey,
palettes and CMYK become RGB where colour is wanted. ``.heic`` needs the plugin ``pillow-heif``.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as root:
...     path = pathlib.Path(root, "grey.pgm")
...     _ = path.write_bytes(b"P5 3 1 255 " + bytes([0, 128, 255]))
...     read_image(path, grey=True).tolist(), read_image(path, size=(3, 3), fit="pad").shape
([[0, 128, 255]], (3, 3, 3))
"""

import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxcnn._io.outside import opened, reason
from jaxcnn.data._dataset import DataError, DataNotFoundError

Fit = Literal["stretch", "crop", "pad"]
Colour = tuple[int, int, int]
# none of these calls another program, as EPS does, or takes any bytes for a picture, as TGA does
FORMATS = (
    "PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO",
    "PCX", "SGI", "QOI",
)  # fmt: skip
BY_NAME = {".tga": "TGA", ".targa": "TGA"}
HEIF = (".heic", ".heif", ".hif")
WANTED = f"an image of {', '.join(FORMATS)}"
WHITE: Colour = (255, 255, 255)
SIXTEEN = {"I;16", "I;16B", "I;16L", "I;16N"}
GREY = {"1", "L", "I", *SIXTEEN}
ORIENTATION = 0x0112  # of EXIF, from 1, upright, to 8


def read_image(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    fit: Fit = "stretch",
    background: Colour = WHITE,
) -> np.ndarray:
    """The pixels of a file, uint8: (h, w) if ``grey``, else (h, w, 3).

    Args:
        size: (height, width) that the picture gets.
        fit: how: "stretch" it; scale it until it covers that and "crop" what is over at both sides;
            or scale it until it fits in and "pad" with the background.
        background: red, green, blue, for what is transparent, and around what is padded.

    Raises DataNotFoundError where there is no such file, DataError where it is no image.
    """
    return decoded(Path(path), lambda image: _pixels(image, size, grey, fit, background))


def pixels_of(path: Path, size: tuple[int, int] | None, fit: Fit, background: Colour) -> np.ndarray:
    """The same, (h, w) where the picture itself has no colour."""
    plain = len(set(background)) == 1

    def read(image: Any) -> np.ndarray:
        grey = image.mode in GREY or (image.mode in ("LA", "La") and plain)
        return _pixels(image, size, grey, fit, background)

    return decoded(path, read)


def known_by_name() -> frozenset[str]:
    """The suffixes of files that are decoded, in small letters."""
    Image = _pillow()
    known = {end for end, form in Image.registered_extensions().items() if form in FORMATS}
    return frozenset(known | set(BY_NAME) | ({*HEIF} if _has_heif() else set()))


def is_picture(path: Path) -> bool:
    """Whether what is in a file looks like the beginning of a picture."""
    try:
        return decoded(path, lambda image: True)
    except DataError:
        return False


def decoded(path: Path, use: Any) -> Any:
    """``use(image)``, of the image in a file; DataError where it is none, or is larger than
    Pillow's ``Image.MAX_IMAGE_PIXELS``."""
    Image = _pillow()
    if path.suffix.lower() in HEIF and not _has_heif():
        raise DataError(f"{path}: HEIC pictures need a plugin: pip install pillow-heif")
    formats = [*FORMATS, *filter(None, [BY_NAME.get(path.suffix.lower())])]
    formats += ["HEIF"] if _has_heif() else []
    with opened(path, WANTED, DataError, DataNotFoundError) as file:
        try:
            with Image.open(file, formats=[f for f in formats if f in Image.OPEN]) as image:
                if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
                return use(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise DataError(
                f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels when decoded; leave it out, or"
                " raise PIL.Image.MAX_IMAGE_PIXELS"
            ) from None
        except _UnusableError as problem:
            raise DataError(f"{path}: {problem}") from None
        except Image.UnidentifiedImageError:
            raise DataError(f"{path}: damaged, or not {WANTED}") from None
        except Exception as error:  # decoders raise anything for damaged bytes
            raise DataError(f"{path}: damaged, or not {WANTED} ({reason(error):.80})") from None


class _UnusableError(Exception):
    """The file is sound, and cannot be used; the message says why."""


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "image files are decoded by Pillow: pip install 'jaxcnn[train]'"
        ) from error
    _hush()
    Image.init()
    if _has_heif() and "HEIF" not in Image.OPEN:
        importlib.import_module("pillow_heif").register_heif_opener()
    return Image


def _has_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def _hush() -> None:
    """Pillow warns of what changes no pixel, such as a damaged preview. For good, as warnings
    cannot be silenced in one thread alone."""
    rule = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if rule not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _pixels(
    image: Any, size: tuple[int, int] | None, grey: bool, fit: Fit, background: Colour
) -> np.ndarray:
    image.load()  # which turns a TIFF
    way = _way_up(image)
    image = _in_eight_bits(image)
    if _see_through(image):
        image = image.convert("RGBA")
        below = _pillow().new("RGBA", image.size, (*background, 255))
        image = _pillow().alpha_composite(below, image)
    image = image.convert("L" if grey else "RGB")
    image = image if way is None else image.transpose(way)
    return np.asarray(image if size is None else _fitted(image, size, fit, background), np.uint8)


def _see_through(image: Any) -> bool:
    return "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "RGBa", "La")


def _in_eight_bits(image: Any) -> Any:
    if image.mode in SIXTEEN or image.mode == "I":
        deep = np.asarray(image).astype(np.int64)
        if deep.min(initial=0) < 0 or deep.max(initial=0) > 65535:
            raise _UnusableError("has pixels of more than 16 bits; save it with 8")
        info, image = image.info, _pillow().fromarray((deep >> 8).astype(np.uint8))
        image.info.update({key: value for key, value in info.items() if key != "transparency"})
    if image.mode == "F":
        raise _UnusableError("has pixels that are no integers; save it with 8 bits a channel")
    return image


def _fitted(image: Any, size: tuple[int, int], fit: Fit, background: Colour) -> Any:
    h, w = size
    if fit == "stretch":
        return image.resize((w, h))
    scales = (w / image.width, h / image.height)
    scale = max(scales) if fit == "crop" else min(scales)
    near = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    image = image.resize(near)
    left, top = (near[0] - w) // 2, (near[1] - h) // 2
    if fit == "crop":
        return image.crop((left, top, left + w, top + h))
    r, g, b = background
    fill = (299 * r + 587 * g + 114 * b) // 1000 if image.mode == "L" else background
    padded = _pillow().new(image.mode, (w, h), fill)
    padded.paste(image, (-left, -top))
    return padded


def _way_up(image: Any) -> Any:
    """How to turn a photograph upright; None where it is, or where its EXIF cannot be read, as
    happens in many a collection."""
    ways = _pillow().Transpose
    try:
        orientation = image.getexif().get(ORIENTATION)
        return {
            2: ways.FLIP_LEFT_RIGHT,
            3: ways.ROTATE_180,
            4: ways.FLIP_TOP_BOTTOM,
            5: ways.TRANSPOSE,
            6: ways.ROTATE_270,
            7: ways.TRANSVERSE,
            8: ways.ROTATE_90,
        }.get(orientation)
    except Exception:
        return None
