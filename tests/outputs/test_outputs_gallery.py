"""The gallery: its data, what its page may and may not hold, and its thumbnails."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from san_cli import __version__
from san_cli.outputs.coco import dataset_info
from san_cli.outputs.colours import colour_of
from san_cli.outputs.gallery import (
    LONGEST_SIDE,
    page_text,
    thumbnail_size,
    write_data,
    write_gallery,
    write_layer,
    write_photo,
)
from san_cli.outputs.record import Found, ImageRecord
from san_cli.regions.rle import Region
from san_cli.text import printable

SETTINGS = {
    "model": "vit-b-16",
    "weights": "0123456789abcdef" * 4,
    "device": "cpu",
    "precision": "fp32",
    "vocab": [["cat"], ["sky", "heaven"], ["</script><b>"]],
    "templates": ["a {}."],
    "show": None,
    "background": 'no "thing"',
    "min-score": 0.25,
}
NAMES = ["cat", "sky", "</script><b>"]
HARMFUL = [
    "<script>x</script>",
    "a'\"&`${1}",
    "two\nlines",
    "\u202egpj.exe",
    "שלום",
    "\u2028",
    "#%3F?\\",
    "{{script}}",
]


def region(area: int) -> Region:
    return Region("", area, (0.0, 0.0, 1.0, 1.0))


def record(name: str, **areas: int) -> ImageRecord:
    return ImageRecord(
        name, 20, 50, tuple(Found(NAMES.index(key), region(area)) for key, area in areas.items())
    )


RECORDS = [
    record("a/one.jpg", cat=100, sky=900),
    ImageRecord(
        "two.png",
        20,
        50,
        (Found(0, region(200), 0.5, 1 / 3), Found(1, region(300), 0.75, 0.99999)),
        uncertain=0.123456789,
        notes=("CMYK,\nturned",),
    ),
    ImageRecord("three.png", 20, 50, uncertain=0.0),
    ImageRecord("bad", 0, 0, error="it is\nempty"),
]


def stem_of(name: str) -> str:
    return name.rpartition(".")[0] or name


def data_of(records: list[ImageRecord]) -> bytes:
    stream = BytesIO()
    write_data(
        stream,
        info=dataset_info(SETTINGS),
        classes=NAMES,
        links={"overlay": ".overlay.jpg"},
        records=iter(records),
        stem_of=stem_of,
    )
    return stream.getvalue()


def parsed(data: bytes) -> tuple[dict[str, Any], list[Any]]:
    text = data.decode("ascii")
    assert text.startswith("gallery({")
    assert text.endswith("]);\n")
    head, rows = json.loads(f"[{text[len('gallery(') : -len(');') - 1]}]")
    return head, rows


def test_data() -> None:
    head, rows = parsed(data_of(RECORDS))
    assert rows == [
        ["a/one.jpg", "a/one", 20, 50, [1, 900, None, 0, 100, None], None],
        ["two.png", "two", 20, 50, [1, 300, 1.0, 0, 200, 0.333], 0.123, ["CMYK,\\nturned"]],
        ["three.png", "three", 20, 50, [], 0.0],
        ["bad", "it is\\nempty"],
    ]
    assert head["version"] == __version__
    assert head["links"] == {"overlay": ".overlay.jpg"}
    assert head["classes"] == [[name, "#{:02x}{:02x}{:02x}".format(*colour_of(name))] for name in NAMES]
    assert dict(head["about"]) == {
        "Model": "vit-b-16",
        "Weights": "0123456789ab",
        "Precision": "fp32 on cpu",
        "Vocabulary": "3 classes",
        "Prompts": "1 template",
        "Background": 'no "thing"',
        "Least score": "0.25",
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, {}),
        ({"min-score": 0, "min-confidence": 0.0, "only": False}, {}),
        ({"min-confidence": 0.5}, {"Least confidence": "0.5"}),
        (
            {"min-score": {"cat": 0.5}, "min-confidence": {"cat": 0.5, "*": 0.25}},
            {"Least score": "by class", "Least confidence": "by class"},
        ),
        ({"only": True}, {"Competing": "a built-in contrast, unseen"}),
    ],
)
def test_foot_tells_what_competes_and_the_limits(given: dict[str, Any], shown: dict[str, str]) -> None:
    stream = BytesIO()
    write_data(stream, info=dataset_info(given), classes=NAMES, links={}, records=iter([]), stem_of=stem_of)
    assert dict(parsed(stream.getvalue())[0]["about"]) == shown


def test_no_image_at_all() -> None:
    assert parsed(data_of([]))[1] == []


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_names(name: str) -> None:
    noted = ImageRecord(f"{name}.jpg", 20, 50, notes=(name,))
    data = data_of([noted, ImageRecord(name, 0, 0, error=name)])
    assert data.count(b"\n") == 3, "one line a record"
    _, rows = parsed(data)
    assert rows[0][0] == printable(f"{name}.jpg")
    assert rows[0][-1] == [printable(name)]
    assert rows[1] == [printable(name), printable(name)]


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_name_finds_its_files(name: bytes) -> None:
    _, rows = parsed(data_of([record(os.fsdecode(name))]))
    assert unquote_to_bytes(rows[0][1]) == os.fsencode(stem_of(os.fsdecode(name)))
    assert re.fullmatch(r"[\w.~/%-]+", rows[0][1], re.ASCII)
    assert rows[0][0].isprintable()


def test_records_are_streamed() -> None:
    stream = BytesIO()
    written = []

    def records() -> Iterator[ImageRecord]:
        for i in range(50):
            written.append(stream.tell())
            yield record(f"{i}.jpg", cat=i + 1)

    write_data(
        stream, info=dataset_info(SETTINGS), classes=NAMES, links={}, records=records(), stem_of=stem_of
    )
    assert written == sorted(set(written)), "a record is in the stream before the next is asked for"


def test_same_records_same_bytes(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "other"):
        output = tmp_path / name
        (output / "html").mkdir(parents=True)
        write_gallery(
            output, info=dataset_info(SETTINGS), classes=NAMES, links={}, records=RECORDS, stem_of=stem_of
        )
        trees.append(
            {p.relative_to(output).as_posix(): p.read_bytes() for p in output.rglob("*") if p.is_file()}
        )
    assert trees[0] == trees[1]
    assert list(trees[0]) and set(trees[0]) == {"index.html", "html/data.js"}


# --- The page ---


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(page_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in self.raw and data.strip():
            self.raw[self.tags[-1][0]].append(data)


@pytest.fixture(scope="module")
def page() -> Elements:
    return Elements()


def test_the_page_asks_for_nothing_but_its_data(page: Elements) -> None:
    text = page_text()
    assert re.search(r"""\b\w+://|["'(=]//""", text) is None
    addresses = [value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href")]
    assert [a for a in addresses if not a.startswith("data:image/png;base64,")] == ["html/data.js"]
    assert "@import" not in text
    assert re.findall(r"url\(([^)]*)\)", text) == ["#only", "#only-detail"]


def test_no_script_or_style_in_attributes_and_no_html_from_text(page: Elements) -> None:
    for tag, attrs in page.tags:
        assert not [key for key in attrs if key.startswith("on") or key == "style"], tag
    for means in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
    ):
        assert means not in page_text()


def test_the_policy_names_this_very_script_and_style(page: Elements) -> None:
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for kind in ("script", "style"):
        (text,) = page.raw[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert f"</{kind}" not in text
    assert "unsafe" not in policy and "http" not in policy


def test_every_element_that_the_script_asks_for_is_there_once(page: Elements) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    script = page.raw["script"][0]
    asked = set(re.findall(r"""(?:byId|on)\("([\w-]+)\"""", script))
    assert len(asked) > 30
    assert asked <= set(ids)
    for _, attrs in page.tags:
        for key in ("aria-labelledby", "aria-controls", "for"):
            assert attrs.get(key) is None or attrs[key] in ids


def test_every_control_has_a_name(page: Elements) -> None:
    for tag, attrs in page.tags:
        if tag in ("input", "select") and attrs.get("type") != "radio":
            assert attrs.get("aria-label"), attrs


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("width", [300, 1096, 2500])
def test_rows_hold_every_image_in_order_and_fill_the_width(width: int) -> None:
    layout = (resources.files("san_cli.outputs") / "gallery_page" / "layout.js").read_text("utf-8")
    rng = np.random.default_rng(width)
    images = [{"width": int(w), "height": int(h)} for w, h in rng.integers(1, 4000, (400, 2))]
    script = f"""{layout}
      const images = {json.dumps(images)};
      const {{rows, height}} = rowsOf(images, {width}, 190, 14, 48);
      const widths = rows.map((row) => images.slice(row.start, row.end)
        .reduce((sum, image) => sum + shapeOf(image) * row.height + 14, -14));
      const found = rows.map((row) => [rowAt(rows, row.top), rowAt(rows, row.top + 100)]);
      console.log(JSON.stringify({{rows, height, widths, found}}));
    """
    ran = subprocess.run(["node", "-"], input=script, capture_output=True, text=True, check=True)
    result = json.loads(ran.stdout)
    rows = result["rows"]
    assert [row["start"] for row in rows] == [0, *(row["end"] for row in rows[:-1])]
    assert rows[-1]["end"] == len(images)
    assert result["widths"][:-1] == pytest.approx([width] * (len(rows) - 1))
    assert result["widths"][-1] <= width + 1e-6
    assert all(row["height"] > 60 for row in rows)
    assert result["found"] == [[i, i] for i in range(len(rows))]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_images_by_doubt_and_classes_with_their_confidence() -> None:
    model = (resources.files("san_cli.outputs") / "gallery_page" / "model.js").read_text("utf-8")
    doubts = [0.25, None, 0.5, 0.0, 0.5]
    records = [
        ImageRecord(f"{i}.jpg", 20, 50, (Found(0, region(100 * i), 0.5, 0.2 * i),), uncertain=doubt)
        for i, doubt in enumerate(doubts, 1)
    ]
    records += [record("6.jpg", cat=1000, sky=10)]
    text = data_of(records).decode("ascii")
    script = f"""{model}
      function gallery(head, rows) {{ take(head, rows); }}
      {text}
      const ids = () => askedImages().map((image) => image.id);
      const result = {{measured: model.isMeasured, confidences: model.classes.map(confidenceOf)}};
      asked.order = "uncertain";
      result.most = ids();
      asked.one = model.classes[0];
      asked.reversed = true;
      result.least = ids();
      console.log(JSON.stringify(result));
    """
    ran = subprocess.run(["node", "-"], input=script, capture_output=True, text=True, check=True)
    result = json.loads(ran.stdout)
    assert result["most"] == [3, 5, 1, 4, 2, 6], "those of which nothing is known last"
    assert result["least"] == result["most"][::-1]
    assert result["measured"] is True
    cat, sky, other = result["confidences"]
    assert cat == pytest.approx(sum(i * 0.2 * i for i in range(1, 6)) / 15)
    assert sky is None and other is None


# --- Thumbnails ---


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_thumbnail_size(height: int, width: int) -> None:
    small = thumbnail_size(height, width)
    assert min(small) >= 1
    assert max(small) == min(max(height, width), LONGEST_SIDE)
    assert thumbnail_size(*small) == small


@pytest.mark.parametrize("shape", [(1, 1), (30, 40), (900, 1300), (1, 2000), (1500, 3)])
def test_photograph_and_layer_are_of_one_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), (200, 100, 50), np.uint8)
    write_photo(tmp_path / "x.jpg", image)
    write_layer(tmp_path / "x.png", np.zeros(shape, np.int16), NAMES)
    with Image.open(tmp_path / "x.jpg") as photo, Image.open(tmp_path / "x.png") as layer:
        assert photo.size == layer.size == thumbnail_size(*shape)[::-1]
        assert np.abs(np.asarray(photo).astype(int) - (200, 100, 50)).max() < 6


def test_layer_shows_classes_outlines_and_what_is_unlabelled(tmp_path: Path) -> None:
    label_map = np.full((40, 60), -1, np.int16)
    label_map[:, 20:40] = 1
    label_map[:, 40:] = 0
    write_layer(tmp_path / "x.png", label_map, NAMES)
    with Image.open(tmp_path / "x.png") as layer:
        shown = np.asarray(layer.convert("RGBA"))
    assert (shown[:, :19, 3] == 0).all()
    for column, colour in (
        (19, (255, 255, 255)),
        (39, (255, 255, 255)),
        (30, colour_of("sky")),
        (50, colour_of("cat")),
    ):
        assert (shown[:, column] == (*colour, 255)).all()


def test_layer_of_more_classes_than_a_palette_holds(tmp_path: Path) -> None:
    names = [f"class number {i}" for i in range(600)]
    label_map = np.repeat(np.arange(300, dtype=np.int32), 40).reshape(100, 120) + 250
    label_map[:50] = 7
    write_layer(tmp_path / "x.png", label_map, names)
    write_layer(tmp_path / "wide.png", np.arange(600, dtype=np.int32).reshape(1, 600), names)
    with Image.open(tmp_path / "x.png") as layer:
        assert tuple(np.asarray(layer.convert("RGBA"))[10, 10]) == (*colour_of(names[7]), 255)


def test_thumbnails_depend_on_nothing_but_their_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, label_map = rng.integers(0, 256, (700, 900, 3), np.uint8), rng.integers(-1, 3, (700, 900))
    for name in ("one", "other"):
        write_photo(tmp_path / f"{name}.jpg", image)
        write_layer(tmp_path / f"{name}.png", label_map, NAMES)
    for suffix in (".jpg", ".png"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"other{suffix}").read_bytes()
