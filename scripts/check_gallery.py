"""Open a gallery of many images in a real Chromium, use it, look at the clock, and take screenshots.

    python scripts/check_gallery.py --images 5000 --screenshots shots/

Needs chromedriver and chromium (Debian: apt-get install chromium chromium-driver) and the `test` extra for the
photographs. The gallery is made from crops of a few photographs under invented label maps, with names meant to
do harm among its images. Exit 1 where something is not as it should be.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from webdriver import SETTLED, Browser, driver

from san_cli.outputs.coco import dataset_info
from san_cli.outputs.gallery import (
    CLASSES_SUFFIX,
    FOLDER,
    PAGE,
    PHOTO_SUFFIX,
    write_gallery,
    write_layer,
    write_photo,
)
from san_cli.outputs.record import Found, ImageRecord
from san_cli.regions.rle import Region, encode_label_map
from san_cli.text import printable
from san_cli.vocabulary.class_lists import load_dataset_vocabulary

SETTINGS = {
    "model": "vit-b-16",
    "weights": "3fd7f91d0a5c8f0e",
    "device": "cpu",
    "precision": "fp32",
    "vocab": [["x"]] * 171,
    "templates": ["a photo of a {}."] * 14,
    "show": None,
    "background": None,
    "min-score": 0.0,
    "min-confidence": {"cat": 0.5, "*": 0.2},
    "only": True,
}
HARMFUL = (
    "<script>document.title='owned'</script>.jpg",
    "\"><img src=x onerror=document.title='owned'>.jpg",
    "two\nlines\tand \x1b[31mred\x1b[0m.jpg",
    "שלום עולם.jpg",
    "turned \u202egpj.exe",
    "not utf-8 \udcff\udcfe.jpg",
    "100% of #1? yes; a\\b & c.jpg",
    "{{script}} ${1} ' \u2028 end.jpg",
)
# What such photographs hold, and of which colour that is: enough for label maps that look like some.
SUBJECTS = {
    "astronaut": {
        "clothes": (225, 110, 60), "person": (225, 165, 140), "wall-other": (205, 200, 195),
        "banner": (70, 70, 130), "metal": (50, 45, 45), "airplane": (245, 245, 245),
    },
    "cat": {"cat": (150, 105, 75), "cloth": (185, 180, 185), "window-other": (60, 40, 30)},
    "coffee": {
        "cup": (160, 40, 15), "food-other": (220, 150, 60), "spoon": (230, 220, 210), "table": (105, 65, 45),
        "wood": (60, 25, 12),
    },
    "rocket": {
        "sky-other": (45, 55, 75), "light": (250, 225, 190), "airplane": (170, 175, 180), "fog": (95, 95, 105),
        "structural-other": (20, 20, 25),
    },
    "china": {
        "sky-other": (215, 225, 240), "water-other": (185, 195, 200), "roof": (80, 85, 85),
        "house": (160, 95, 80), "tree": (70, 80, 45), "bush": (30, 35, 20), "hill": (140, 160, 170),
    },
    "flower": {"flower": (225, 130, 160), "leaves": (45, 70, 45), "bush": (15, 20, 18)},
}  # fmt: skip


# --- A gallery -------------------------------------------------------------------------------------------


def photographs() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The photographs of the examples, scikit-image and scikit-learn."""
    for path in sorted((Path(__file__).parent.parent / "examples" / "photos").glob("*.jpg")):
        yield path.stem, np.asarray(Image.open(path).convert("RGB"))
    from sklearn.datasets import load_sample_images

    yield from zip(("china", "flower"), load_sample_images().images, strict=True)


def invented_map(image: NDArray[np.uint8], colours: NDArray[np.floating]) -> NDArray[np.int32]:
    """A label map [H, W] along the image's edges: superpixels, each of the nearest of `colours` [C, 3]."""
    from skimage.segmentation import slic

    segments = slic(image, 350, compactness=9, start_label=0)
    size = np.bincount(segments.ravel())
    means = np.stack([np.bincount(segments.ravel(), image[..., c].ravel()) / size for c in range(3)], axis=1)
    distance = np.square(means[:, None] - colours).sum(axis=2)
    return distance.argmin(axis=1).astype(np.int32)[segments]


@dataclass
class Sample:
    name: str
    image: NDArray[np.uint8]
    label_map: NDArray[np.int32]
    found: tuple[Found, ...]


def samples(classes: Sequence[str]) -> list[Sample]:
    """Some forty crops of all shapes."""
    rng = np.random.default_rng(5)
    found = []
    for name, image in photographs():
        ids = np.array([classes.index(word) for word in SUBJECTS[name]], np.int32)
        label_map = ids[invented_map(image, np.array([*SUBJECTS[name].values()], float))]
        height, width = label_map.shape
        boxes = [(0, 0, height, width)]
        for shape in (1.5, 1.33, 0.75, 1.0, 2.4, 0.3):
            h = int(rng.uniform(0.5, 0.95) * min(height, width / shape))
            w = int(h * shape)
            top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            boxes.append((top, left, h, w))
        for number, (top, left, h, w) in enumerate(boxes):
            area = slice(top, top + h), slice(left, left + w)
            crop = label_map[area].copy()
            if number == 3:
                crop[: h // 4] = -1
            classes_of = tuple(
                Found(i, Region("", r.area, r.bbox), 0.5, float(rng.uniform(0.2, 1) ** 0.5))
                for i, r in encode_label_map(crop).items()
            )
            found.append(Sample(f"{name}-{number}", np.ascontiguousarray(image[area]), crop, classes_of))
    return found


def make_gallery(output: Path, count: int) -> None:
    """`count` images, the harmful names among them, and some failures."""
    vocabulary = load_dataset_vocabulary("coco")
    classes = [one.name for one in vocabulary.classes]
    originals = output / FOLDER / "sample"
    originals.mkdir(parents=True)
    made = samples(classes)
    for sample in made:
        write_photo(originals / (sample.name + PHOTO_SUFFIX), sample.image)
        write_layer(originals / (sample.name + CLASSES_SUFFIX), sample.label_map, classes)
    records = []
    for i in range(count):
        sample = made[i * 17 % len(made)]
        name = f"{sample.name}.jpg" if count <= len(made) else f"part-{i // 500:02}/{sample.name}-{i:05}.jpg"
        if 20 <= i < 20 + len(HARMFUL):
            name = HARMFUL[i - 20]
        for suffix in (PHOTO_SUFFIX, CLASSES_SUFFIX):
            path = output / FOLDER / (name + suffix)
            path.parent.mkdir(exist_ok=True)
            os.link(originals / (sample.name + suffix), path)
        doubt = None if i == count // 2 else i * 37 % 101 / 101 * (i % 3) / 2
        notes = ("CMYK turned into RGB", "<b>turned</b> by what its EXIF says") if i % 7 == 5 else ()
        records.append(ImageRecord(name, *sample.image.shape[:2], sample.found, uncertain=doubt, notes=notes))
    records += [
        ImageRecord("broken/<b>half</b>.jpg", 0, 0, error="it ends in the middle: 4,096 of 90,112 bytes"),
        ImageRecord("broken/empty.png", 0, 0, error="the file is empty"),
        ImageRecord("holidays/IMG_0042.heic", 0, 0, error="HEIC can't be read: pip install pillow-heif"),
    ]
    write_gallery(
        output, info=dataset_info(SETTINGS), classes=classes, records=records, stem_of=lambda name: name,
        links={"overlay": ".overlay.jpg", "labels": ".labels.png"},
    )  # fmt: skip


# --- What is asked of the page ----------------------------------------------------------------------

BROKEN = "return [...document.images].filter((i) => i.src && !i.naturalWidth).map((i) => i.src)"
TIMES = (
    SETTLED
    + """
  const [page] = performance.getEntriesByType("navigation");
  return {
    ready: page.domContentLoadedEventEnd,
    firstPaint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    inSight: performance.now(),
    cards: document.querySelectorAll(".card").length,
    nodes: document.querySelectorAll("*").length,
    heap: performance.memory.usedJSHeapSize / 2 ** 20,
  };
"""
)
SCROLL = """
  const frames = [];
  let last = performance.now();
  for (let i = 1; i <= 180; i++) {
    window.scrollTo(0, i * %d);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - last);
    last = now;
  }
  frames.sort((a, b) => a - b);
  return {median: frames[90], p95: frames[171], worst: frames[179], cards: document.querySelectorAll(".card").length};
"""
TASK = """
  const start = performance.now();
  %s
  document.body.offsetHeight;
  return performance.now() - start;
"""


# --- The check -------------------------------------------------------------------------------------------


class Check:
    """Counts what isn't as it should be."""

    def __init__(self) -> None:
        self.wrong = 0

    def __call__(self, what: str, got: object, wanted: object) -> None:
        right = got == wanted
        self.wrong += not right
        print(f"{'ok   ' if right else 'WRONG'} {what}" + ("" if right else f": {got!r}, not {wanted!r}"))


def check_behaviour(browser: Browser, page: str, count: int, check: Check) -> None:
    """Filters, keys, names, and that nothing is asked of a network."""
    browser.open(page)
    number = "return document.querySelector('#count').textContent"
    check("all images", browser.run(number), f"{count:,} images")
    check("names are inert", browser.run("return document.title"), "Gallery – san")
    check("images load", browser.run(SETTLED + BROKEN), [])
    browser.press("/")
    browser.press("cat")
    browser.press("\ue007")
    check("type-ahead", browser.run("return asked.one.name"), "cat")
    check("sorted by coverage", browser.run("const s = grid.images.map((i) => shareOf(i, asked.one));"
          "return s.every((v, i) => !i || v <= s[i - 1]) && s[s.length - 1] > 0"), True)  # fmt: skip
    browser.run("document.activeElement.blur()")
    browser.press("\ue00c")
    check("Escape shows all", browser.run(number), f"{count:,} images")
    check_doubt(browser, page, check)
    browser.open(page)
    browser.run("focusImage(0)")
    browser.press("\ue014\ue014\ue015\ue007")
    check("arrows and Enter", browser.run("return detail.index > 2 && byId('detail').open"), True)
    before = browser.run("return detail.index")
    browser.press("\ue014")
    check("next image", browser.run("return detail.index"), before + 1)
    browser.press("\ue012\ue012")
    check("previous image", browser.run("return detail.index"), before - 1)
    browser.press("\ue00c")
    check("Escape closes", browser.run("return byId('detail').open"), False)
    check("focus comes back", browser.run("return Number(document.activeElement.dataset.index)"), before - 1)
    browser.run("window.scrollTo(0, 1e5); await new Promise((done) => setTimeout(done, 300))")
    check("Tab leads to one image", browser.run("document.activeElement.blur(); paint();"
          "return document.querySelectorAll('.card[tabindex=\"0\"]').length"), 1)  # fmt: skip
    browser.press("o")
    check("o shows photographs", browser.run("return document.documentElement.dataset.view"), "photo")
    browser.press("?")
    check("? helps", browser.run("return byId('help').open"), True)
    browser.press("\ue00c")
    browser.run("focusImage(grid.active)")
    browser.press("\ue010")
    check("End", browser.run("return Number(document.activeElement.dataset.index)"), count - 1)
    for name in HARMFUL:
        browser.open(page)
        browser.run(f"asked.find = {json.dumps(printable(name))}; refresh();" + SETTLED)
        check(f"'{printable(name)}'", browser.run(number), f"1 of {count:,} images")
        check("  its image loads", browser.run(BROKEN), [])
    browser.run("asked.find = ''; refresh();")
    check("failures", browser.run("return byId('failures').innerText.includes('<b>half</b>.jpg')"), True)
    check_logs(browser, check)


def check_doubt(browser: Browser, page: str, check: Check) -> None:
    """The images in order of doubt, and what the page tells of it."""
    change = "byId('order').value = 'uncertain'; byId('order').dispatchEvent(new Event('change'));"
    browser.run(change + SETTLED)
    check("sorted by doubt", browser.run("const s = grid.images.map((i) => i.uncertain ?? -1);"
          "return s[0] > 0.9 && s.every((v, i) => !i || v <= s[i - 1])"), True)  # fmt: skip
    check("the address keeps it", browser.run("return location.hash"), "#sort=uncertain")
    fact = "return document.querySelector('.card[data-index=\"0\"] .fact').textContent"
    check("doubt below an image", browser.run(fact), "99% uncertain")
    browser.run("byId('reverse').click()")
    check("surest first", browser.run("const s = grid.images.map((i) => i.uncertain ?? -1);"
          "return s[9] < 0.1 && s.every((v, i) => !i || v >= s[i - 1])"), True)  # fmt: skip
    browser.open(page + "#sort=uncertain&image=6")
    check("confidence in an open image", browser.run(
          "const {parts} = grid.images[detail.index];"
          "const shown = [...document.querySelectorAll('#detail-classes button:enabled small')];"
          "return shown.length === parts.length"
          " && shown.every((one, i) => one.textContent === percent(parts[i].confidence))"), True)  # fmt: skip
    check("notes of it", browser.run("return byId('detail-notes').innerText.split('\\n')[1]"),
          "<b>turned</b> by what its EXIF says")  # fmt: skip


def check_logs(browser: Browser, check: Check) -> None:
    """No message in the console, and no address but of files."""
    check("console", [entry["message"] for entry in browser.log("browser")], [])
    addresses = set()
    for entry in browser.log("performance"):
        message = json.loads(entry["message"])["message"]
        asked = message["params"]
        if message["method"] == "Network.requestWillBeSent" and asked["documentURL"].startswith("file:"):
            addresses.add(asked["request"]["url"].partition(":")[0])
    check("addresses", sorted(addresses - {"data"}), ["file"])


def measure(browser: Browser, page: str) -> None:
    """Seconds to see it, and frames while scrolling."""
    browser.open(page)
    times = browser.run(TIMES)
    print(f"\nready {times['ready']:.0f} ms, first paint {times['firstPaint']:.0f} ms, all images in sight "
          f"{times['inSight']:.0f} ms; {times['cards']} cards, {times['nodes']} elements, "
          f"{times['heap']:.1f} MB of heap")  # fmt: skip
    for speed in (40, 400, 4000):
        browser.run("window.scrollTo(0, 0);" + SETTLED)
        frames = browser.run(SCROLL % speed)
        print(f"scrolling {speed} pixels a frame: median {frames['median']:.1f} ms, "
              f"95% {frames['p95']:.1f} ms, worst {frames['worst']:.0f} ms; {frames['cards']} cards")  # fmt: skip
    for what, script in (
        ("filter by a class", "choose(foundClasses()[0]);"),
        ("sort by name", "asked.order = 'name'; refresh();"),
        ("a letter of a name", "asked.find = 'cat'; refresh();"),
        ("show all again", "asked.find = ''; asked.order = 'input'; choose(null);"),
        ("another size", "grid.size = 120; layOutAgain();"),
    ):
        print(f"{what}: {browser.run(TASK % script):.1f} ms")


def take_screenshots(browser: Browser, page: str, folder: Path, prefix: str = "") -> None:
    """The states that a person should look at."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {
        "light": "#theme=light",
        "dark": "#theme=dark",
        "photo": "#theme=light&view=photo",
        "class": "#theme=light&class=cat",
        "class-dark": "#theme=dark&class=person",
        "doubt": "#theme=light&sort=uncertain",
        "doubt-class": "#theme=dark&sort=uncertain&class=cat",
        "detail": "#theme=light&image=12",
        "detail-notes": "#theme=light&sort=uncertain&image=6",
        "detail-dark": "#theme=dark&image=3",
    }
    for name, state in states.items():
        browser.open(page + state)
        browser.screenshot(folder / f"{prefix}{name}.png")
    browser.open(page + "#theme=light&image=5")
    browser.run("document.querySelector('#detail-classes button').dispatchEvent(new Event('pointerenter'))")
    browser.screenshot(folder / f"{prefix}detail-class.png")
    browser.open(page + "#theme=dark")
    browser.move(620, 200)
    browser.screenshot(folder / f"{prefix}scrub.png")
    browser.run("byId('failures').scrollIntoView()")
    browser.screenshot(folder / f"{prefix}end.png")
    browser.press("?")
    browser.screenshot(folder / f"{prefix}help.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--screenshots", type=Path, help="folder for PNGs")
    parser.add_argument("--keep", type=Path, help="make the galleries here, and leave them")
    parser.add_argument("--size", default="1440x900", help="of the window")
    arguments = parser.parse_args()
    check = Check()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as temp, driver() as address:
        folder = arguments.keep or Path(temp)
        galleries = {"few": 42, "many": arguments.images}
        for name, count in galleries.items():
            if not (folder / name / PAGE).exists():
                make_gallery(folder / name, count)
        browser = Browser(address, (width, height))
        try:
            many = (folder / "many" / PAGE).resolve().as_uri()
            check_behaviour(browser, many, arguments.images, check)
            measure(browser, many)
            if arguments.screenshots:
                take_screenshots(browser, (folder / "few" / PAGE).resolve().as_uri(), arguments.screenshots)
                take_screenshots(browser, many, arguments.screenshots, "many-")
        finally:
            browser.close()
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
