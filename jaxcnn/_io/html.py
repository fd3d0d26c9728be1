"""A small writer of web pages that hold everything they show: text, tables, and pictures of arrays.

Text is escaped wherever it is put in; :class:`Html` marks what has been made by these functions and
is put in as it is.

>>> print(element("p", "a < b", element("b", "!"), class_="loud"))
<p class="loud">a &lt; b<b>!</b></p>
"""

import base64
import html
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxcnn._io.outside import printable_lines
from jaxcnn._io.thin import thin

NEGATIVE, ZERO, POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
NOT_FINITE = (250, 190, 0)
PIXELS, ROW = 65_536, 1_024  # a picture of more elements is thinned, and a vector of more
LONGEST = 8  # times: how much longer than wide a grid of tiles may be
# the side aimed at, the largest pixel, the smallest side, all in CSS pixels
SIDE, LARGEST, SMALLEST = 320, 24, 12

STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1f2937; --paper: #fff; --line: #d1d5db;
  --pale: #f3f4f6; --good: #15803d; --bad: #b91c1c;
  --aside: #6b7280 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e5e7eb; --paper: #111827;
  --line: #4b5563; --pale: #1f2937; --good: #4ade80;
  --bad: #f87171; --aside: #9ca3af }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 0 auto; padding: 1rem }}
h1, h2, h3 {{ line-height: 1.25; overflow-wrap: anywhere }}
p, li, summary {{ overflow-wrap: anywhere }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .9rem }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid var(--line) }}
pre {{ background: var(--pale); padding: .6rem; overflow-x: auto; font-size: .85rem }}
details {{ border: 1px solid var(--line); border-radius: .4rem;
  padding: .4rem .8rem; margin: .6rem 0 }}
summary {{ cursor: pointer; font-weight: 600 }}
.row {{ display: flex; flex-wrap: wrap; gap: 1rem }}
figure {{ margin: .4rem 0; max-width: 100% }}
figcaption {{ font-size: .8rem; color: var(--aside) }}
figure img {{ image-rendering: pixelated; max-width: 100%; border: 1px solid var(--line) }}
.bar {{ display: inline-block; width: 6rem; height: .7rem; margin: 0 .3rem;
  border: 1px solid var(--line);
  background: linear-gradient(90deg, rgb{NEGATIVE}, rgb{ZERO}, rgb{POSITIVE}) }}
.spot {{ display: inline-block; width: .7rem; height: .7rem; margin: 0 .3rem 0 .8rem;
  background: rgb{NOT_FINITE} }}
.holds {{ color: var(--good) }} .FAILED {{ color: var(--bad); font-weight: 600 }}
.skipped, .undecided, .aside {{ color: var(--aside) }}
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: Any, **attributes: Any) -> Html:
    """An element: ``class_`` stands for ``class``, an attribute that is True for its bare name,
    False for none."""
    said = [
        (
            key.rstrip("_")
            if value is True
            else f'{key.rstrip("_")}="{html.escape(printable_lines(value))}"'
        )
        for key, value in attributes.items()
        if value is not False
    ]
    start = f"<{' '.join([name, *said])}>"
    return Html(start if name in ("br", "img") else f"{start}{together(children)}</{name}>")


def together(parts: Iterable[Any]) -> Html:
    """The parts one after the other, escaped where they are not HTML."""
    return Html(
        "".join(
            part if isinstance(part, Html) else html.escape(printable_lines(part)) for part in parts
        )
    )


def page(title: str, body: Html) -> str:
    """A whole page, readable on a phone and by night, that loads nothing."""
    head = [
        Html(
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width,'
            ' initial-scale=1">'
        ),
        element("title", title),
        element("style", Html(STYLE)),
    ]
    return (
        "<!DOCTYPE"
        f" html>\n{element('html', element('head', *head), element('body', body), lang='en')}\n"
    )


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Html:
    """A table, which scrolls sideways where it is wider than the page."""
    top = element("tr", *(element("th", cell) for cell in header))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    return element(
        "div", element("table", element("thead", top), element("tbody", *body)), class_="wide"
    )


def heat(array: Any, *, limit: float | None = None, caption: str = "") -> Html:
    """A picture of ``array``: blue below zero, white at zero, red above, yellow where there is no
    finite number.

    The last two axes make a tile, the axes before them a grid of tiles. ``limit`` is the number
    that has full colour (the largest one, if not given). A complex array shows its real and its
    imaginary part."""
    whole = np.asarray(array)
    told = [caption] if caption else []
    if whole.dtype.kind == "c":
        whole = np.stack([np.real(whole), np.imag(whole)])
        told.append("real part, imaginary part")
    whole = whole.astype(np.float64)
    told.append(f"shape {tuple(np.shape(array))}".replace(",)", ")"))
    if whole.size == 0:
        return element("figure", element("figcaption", ", ".join(told), ": no elements"))
    shown, steps = thin(whole, PIXELS if whole.ndim > 1 else ROW)
    if max(steps, default=1) > 1:
        told.append(
            "thinned: of axis "
            + ", ".join(f"{axis} every {step}." for axis, step in enumerate(steps) if step > 1)
        )
    bound = _largest(whole) if limit is None else float(limit)
    pixels = _tiles(_coloured(shown, bound))
    height, width = pixels.shape[:2]
    scale = min(max(SIDE // max(height, width), 1), LARGEST)
    source = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
    sizes = {"width": max(width * scale, SMALLEST), "height": max(height * scale, SMALLEST)}
    picture = element("img", src=source, alt=", ".join(told), **sizes)
    legend = [f"{-bound:.3g}", element("span", class_="bar"), f"{bound:.3g}"]
    if wrong := int((~np.isfinite(whole)).sum()):
        legend += [element("span", class_="spot"), f"{wrong} not finite"]
    return element(
        "figure", picture, element("figcaption", ", ".join(told), element("br"), *legend)
    )


def png(pixels: np.ndarray) -> bytes:
    """A PNG of ``pixels``, uint8[height, width, 4] (red, green, blue, opacity)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    height, width = pixels.shape[:2]
    # 8 bits each of red, green, blue and opacity
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    # each line begins with its filter: 0, none
    lines = np.pad(pixels.reshape(height, width * 4), [(0, 0), (1, 0)])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def _largest(array: np.ndarray) -> float:
    """The largest finite |element|; 1 where all are zero."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) or 1.0


def _coloured(values: np.ndarray, bound: float) -> np.ndarray:
    """uint8[..., 4], opaque."""
    finite = np.isfinite(values)
    with np.errstate(over="ignore"):
        depth = np.clip(np.where(finite, values, 0.0) / (bound or 1.0), -1.0, 1.0)[..., None]
    end = np.where(depth < 0, NEGATIVE, POSITIVE)
    colours = np.where(finite[..., None], ZERO + np.abs(depth) * (end - np.array(ZERO)), NOT_FINITE)
    return np.concatenate([np.rint(colours), np.full((*values.shape, 1), 255.0)], axis=-1).astype(
        np.uint8
    )


def _tiles(pixels: np.ndarray) -> np.ndarray:
    """[..., h, w, 4] as one picture, with transparent gaps of one pixel.

    The last of the leading axes runs across, the others down, but for a single one and for long
    strips: these are wrapped into a square."""
    pixels = pixels.reshape((1,) * (3 - pixels.ndim) + pixels.shape)
    *leading, height, width, depth = pixels.shape
    count, columns = math.prod(leading), leading[-1] if len(leading) > 1 else 0
    if not 1 / LONGEST <= columns**2 * width / (count * height) <= LONGEST:
        columns = min(max(round(math.sqrt(count * height / width)), 1), count)
    rows = math.ceil(count / columns)
    canvas = np.zeros((rows, height + 1, columns, width + 1, depth), np.uint8)
    for number, tile in enumerate(pixels.reshape(count, height, width, depth)):
        canvas[number // columns, :height, number % columns, :width] = tile
    return canvas.reshape(rows * (height + 1), columns * (width + 1), depth)[:-1, :-1]
