"""Reports for the eye and for the wire: pages, pictures, plain data."""

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from jaxcnn._io import html
from jaxcnn._io.thin import thin
from jaxcnn.verify import _show as show
from jaxcnn.verify._commands import report_json
from jaxcnn.verify._report import Failure, Mismatch, Report, Verdict


def mismatch(got, expected, index):
    return Mismatch(
        got, expected, index, 0.5, 1e6, got.size - 1, got.size, 1e-10, 0.25, "all scaled by <0.5>"
    )


def report(name="conv <2>", *mismatches):
    failures = tuple(
        Failure("gradient", "args[0]['<w>']", str(m), "a & b", m, "check(f, '<x>')")
        for m in mismatches
    )
    verdicts = (
        Verdict(
            "jit",
            "compiled = eager",
            "holds",
            note="<note>",
            worst=1e-16,
            allowed=1e-10,
            seconds=1.0,
        ),
        Verdict("mesh", "", "skipped", note="one device"),
        Verdict(
            "gradient", "", "FAILED" if failures else "holds", failures, worst=np.inf, allowed=1e-10
        ),
    )
    return Report(name, {"args[0]": "float32[3,4]"}, "float64", verdicts, seed=7)


@pytest.fixture
def wrong():
    expected = np.random.default_rng(0).standard_normal((2, 3, 4))
    got = expected / 2
    got[0, 1, 2] = np.nan
    return report("conv <2>", mismatch(got, expected, (1, 2, 3)))


def pictures(page):
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [
        np.rint(matplotlib.image.imread(io.BytesIO(base64.b64decode(s))) * 255) for s in sources
    ]


class Nesting(HTMLParser):
    """Each element is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.outside += [
            value
            for name, value in attrs
            if name in ("src", "href") and not str(value).startswith("data:")
        ]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_well_formed_escaped_and_alone(wrong):
    page = show.html_page([report("good"), wrong])
    parser = Nesting()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert not parser.outside
    assert "url(" not in page
    assert "script" not in parser.seen
    assert not re.search(r"<(2|w|x|note|0\.5)>", page)
    for words in (
        "conv &lt;2&gt;",
        "a &amp; b",
        "&lt;note&gt;",
        "1 of 2 holds, 1 failed",
        "scaled by &lt;0.5&gt;",
        "prefers-color-scheme",
        "viewport",
    ):
        assert words in page
    assert page.index("<details open><summary>conv") < page.index("<details><summary>good")
    assert len(pictures(page)) == 3


def test_got_and_expected_share_their_colours(wrong):
    got, expected, difference = pictures(show.html_page([wrong]))
    assert got.shape == expected.shape == difference.shape
    worst = np.abs(expected[..., :3] - 247).sum(-1) * (expected[..., 3] > 0)
    place = np.unravel_index(worst.argmax(), worst.shape)
    # half the number, half the colour
    assert np.abs(got[place][:3] - 247).sum() < 0.6 * worst[place]
    assert [
        (*html.NOT_FINITE, 255) in {tuple(c) for c in p.reshape(-1, 4)}
        for p in (got, expected, difference)
    ] == [
        True,
        False,
        True,
    ]


def test_colours():
    (picture,) = pictures(html.heat(np.array([[-2.0, 0.0], [2.0, np.inf]])))
    assert picture[..., :3].tolist() == [
        [[*html.NEGATIVE], [*html.ZERO]],
        [[*html.POSITIVE], [*html.NOT_FINITE]],
    ]
    assert (picture[..., 3] == 255).all()


@pytest.mark.parametrize(("shape", "drawn"), [
    ((), (1, 1)), ((5,), (1, 5)), ((2, 3), (2, 3)), ((4, 2, 3), (5, 7)), ((3, 2, 4, 5), (14, 11)), ((2, 2, 1, 4, 4), (19, 4)),
    ((50, 1, 2, 2), (23, 20)), ((1000, 700), (250, 175)), ((5000,), (1, 625)), ((1000, 28, 28), (231, 231)),
])  # fmt: skip
def test_arrays_of_any_rank(shape, drawn):
    figure = html.heat(np.zeros(shape), caption="a <b>")
    (picture,) = pictures(figure)
    assert picture.shape == (*drawn, 4)
    assert ("thinned" in figure) == (np.prod(shape) > 70_000 or shape == (5000,))
    assert "a &lt;b&gt;" in figure


def test_odd_arrays():
    assert "no elements" in html.heat(np.zeros((0, 3)))
    assert "imaginary" in html.heat(np.array([1 + 2j]))
    assert "1 not finite" in html.heat([np.nan, 1.0])
    assert "-1<" in html.heat(np.zeros(3))
    assert pictures(html.heat([True, False]))[0].shape == (1, 2, 4)
    pictures(html.heat([1e308, -1e308], limit=1e-308))


def test_thinning_keeps_the_element_asked_for():
    array = np.random.default_rng(0).standard_normal((40, 30, 20))
    thinned, steps = thin(array, 1000, keep=(33, 17, 9))
    assert thinned.size <= 1000
    assert (
        thinned[tuple(i // step for i, step in zip((33, 17, 9), steps, strict=True))]
        == array[33, 17, 9]
    )


@pytest.mark.parametrize("kind", ["real", "complex", "scalar", "large"])
def test_a_report_survives_the_wire(kind, wrong):
    expected = {
        "scalar": np.array(2.0),
        "large": np.random.default_rng(0).standard_normal((300, 300)),
        "complex": np.array([1 + 2j, 3.0]),
    }.get(kind)
    if expected is not None:
        wrong = report(
            "f",
            mismatch(
                np.asarray(expected * 0.5),
                expected,
                {"scalar": (), "large": (299, 123), "complex": (0,)}[kind],
            ),
        )
    row = json.loads(json.dumps(report_json.pack(wrong)))
    again = report_json.unpack(row)
    assert report_json.without_arrays(row) == wrong.json()
    json.dumps(report_json.without_arrays(row), allow_nan=False)
    before, after = wrong.failures[0].mismatch, again.failures[0].mismatch
    assert before is not None
    assert after is not None
    np.testing.assert_equal(after.got[after.index], before.got[before.index])
    np.testing.assert_equal(after.expected[after.index], before.expected[before.index])
    assert after.got.size <= report_json.ELEMENTS
    if kind != "large":
        assert str(again) == str(wrong)
        np.testing.assert_equal(after.got, before.got)
    assert ("of 90,000 elements are shown" in show.html_page([again])) == (kind == "large")


@pytest.mark.parametrize("installed", [True, False])
def test_printed_in_colour_and_plainly(wrong, capsys, monkeypatch, installed):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    if not installed:
        monkeypatch.setattr(show.importlib.util, "find_spec", lambda name: None)
    show.print_report(wrong)
    out = capsys.readouterr().out
    assert (out == f"{wrong}\n") == (not installed)
    # no word is taken for markup
    for words in ("conv <2>: FAILED", "args[0]['<w>']", "one device", "a & b"):
        assert words in out
