"""What people give in place of images: each is told what it is and what works, before a model is loaded."""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from program import San, tree

from san_cli.datasets.image_names import IMAGE_SUFFIXES
from san_cli.errors import ExitCode, SanError
from san_cli.predict.input_hints import as_meant, did_you_mean, instead_of_image, why_missing
from san_cli.predict.inputs import Listing, discover, fail_unreadable
from san_cli.predict.output_names import RESULTS, check_collisions

JPEG = io.BytesIO()
Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)).save(JPEG, "JPEG")
FTYP = b"\0\0\0\x18ftyp"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def photo(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(JPEG.getvalue())


def search(*arguments: str, stdin: bytes | None = None, **options: object) -> tuple[Listing, list[str]]:
    notes: list[str] = []
    stream = None if stdin is None else io.BytesIO(stdin)
    return discover(arguments, stdin=stream, say=notes.append, **options), notes  # type: ignore[arg-type]


def names(*arguments: str, **options: object) -> list[str]:
    return [image.name for image in search(*arguments, **options)[0].images]  # type: ignore[arg-type]


def failure(argument: str, stdin: bytes | None = None) -> str:
    """The cause of the one input that fails, whether when it is listed or by its header."""
    found = fail_unreadable(search(argument, stdin=stdin)[0], 10_000)
    assert not found.images
    (only,) = found.failures
    assert only.cause.isprintable()
    return only.cause


def refusal(*arguments: str, **options: object) -> SanError:
    with pytest.raises(SanError) as caught:
        search(*arguments, **options)  # type: ignore[arg-type]
    return caught.value


# Files without a known suffix


def test_images_without_a_known_suffix_are_counted_and_named() -> None:
    photo("odd/a.jpg", "odd/b", "odd/c.jpg_large", "odd/d.jpg?w=640")
    Path("odd/README").write_text("no image")
    os.mkfifo("odd/pipe")
    found, notes = search("odd")
    assert [image.name for image in found.images] == ["a.jpg"]
    (note,) = notes
    for told in ("3 files", "odd/b", "odd/c.jpg_large", "odd/d.jpg?w=640", "'odd/**'"):
        assert told in note
    assert names("odd/**") == names("odd/*") == ["a.jpg", "b", "c.jpg_large", "d.jpg?w=640"]
    assert names("odd/b") == ["b"]


def test_a_folder_of_images_without_suffixes_leads_to_the_pattern() -> None:
    photo(*(f"crawl/{number:032x}" for number in range(12)))
    error = refusal("crawl")
    assert error.code == ExitCode.NO_INPUT
    assert "12 files" in error.hint
    assert "'crawl/**'" in error.hint
    assert len(names("crawl/**")) == 12


def test_few_of_many_other_files_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    from san_cli.predict import inputs

    photo("in/a.jpg", "in/odd")
    for number in range(300):
        Path(f"in/{number}.txt").touch()
    opened: list[str] = []
    read_head = inputs.read_head
    monkeypatch.setattr(inputs, "read_head", lambda path: (opened.append(path), read_head(path))[1])
    (note,) = search("in")[1]
    assert "in/odd looks like an image" in note
    assert len(opened) <= 65


def test_other_media_in_a_folder_are_counted() -> None:
    photo("in/a.jpg")
    for name in ("m.MOV", "n.mov", "p.zip", "notes.txt", "Thumbs.db", ".DS_Store"):
        (Path("in") / name).touch()
    (note,) = search("in")[1]
    assert "2 .mov, 1 .zip" in note
    Path("in/a.jpg").unlink()
    error = refusal("in")
    assert "ffmpeg" in error.hint
    assert error.code == ExitCode.NO_INPUT


def test_hidden_files_alone_are_told() -> None:
    photo("in/.a.jpg", "in/.b/c.jpg")
    assert "2 hidden" in refusal("in").hint


def test_folders_of_the_system_are_left_out() -> None:
    photo("nas/x.JPG", "nas/@eaDir/x.JPG/THUMB.jpg", "nas/__MACOSX/._x.JPG", "nas/$RECYCLE.BIN/y.jpg")
    found, notes = search("nas")
    assert [image.name for image in found.images] == ["x.JPG"]
    assert any("nas/@eaDir" in note for note in notes)
    assert names("nas/@eaDir") == ["x.JPG/THUMB.jpg"]  # unless named


# Results of a former run


def test_results_of_a_former_run_are_no_photographs() -> None:
    photo("in/a.jpg", "in/old/.san/x", "in/old/a.overlay.jpg", "in/old/sub/b.labels.png", "in/old/c.jpg")
    Path("in/old/.san/run.json").write_text("{}")
    found, notes = search("in")
    assert [image.name for image in found.images] == ["a.jpg", "old/c.jpg"]
    assert any("former run" in note and "a.overlay.jpg" in note for note in notes)
    Path("in/old/c.jpg").unlink()
    error = refusal("in/old", output=Path("in/old"))
    assert (error.code, "former run" in error.message) == (ExitCode.NO_INPUT, True)
    assert "former run" in refusal("in/old/sub").message
    assert names("in/old/**/*.overlay.jpg") == ["a.overlay.jpg"]
    found, notes = search("in/old/a.overlay.jpg")
    assert len(found.images) == 1
    assert "results" in notes[0]


def test_files_that_only_have_names_of_results_are_taken() -> None:
    pictures = [f"in/a{suffix}" for _, suffix in RESULTS if suffix.endswith((".png", ".jpg", ".tif"))]
    photo(*pictures)
    assert len(names("in")) == len(pictures)


# --exclude


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.png"], ["a.jpg", "masks/b.jpg", "sub/masks/c.jpg"]),
        (["masks"], ["a.jpg", "a.png"]),
        (["masks/"], ["a.jpg", "a.png"]),
        (["/masks"], ["a.jpg", "a.png", "sub/masks/c.jpg"]),
        (["./masks/*"], ["a.jpg", "a.png", "sub/masks/c.jpg"]),
        (["in/masks"], ["a.jpg", "a.png", "sub/masks/c.jpg"]),
        (["**/masks/c.*"], ["a.jpg", "a.png", "masks/b.jpg"]),
        (["*.png", "sub"], ["a.jpg", "masks/b.jpg"]),
        (["?.p[nm]g"], ["a.jpg", "masks/b.jpg", "sub/masks/c.jpg"]),
    ],
)
def test_exclude(patterns: list[str], left: list[str]) -> None:
    photo("in/a.jpg", "in/a.png", "in/masks/b.jpg", "in/sub/masks/c.jpg")
    found, notes = search("in", exclude=patterns)
    assert [image.name for image in found.images] == left
    assert not notes
    assert names("in/**", exclude=patterns) == left


def test_exclude_holds_for_named_files_and_lists() -> None:
    photo("in/a.jpg", "in/a.png", "in/masks/b.jpg")
    Path("in/list.txt").touch()
    assert names("in/a.jpg", "in/a.png", "in/masks", "in/list.txt", exclude=["*.png", "masks", "*.txt"]) == [
        "a.jpg"
    ]
    assert names("-", stdin=b"in/a.jpg\nin/masks/b.jpg\nin/a.png", exclude=["masks", "*.png"]) == ["in/a.jpg"]


def test_exclude_that_meets_nothing_is_told() -> None:
    photo("in/a.jpg", "x.png")
    _, notes = search("in", exclude=["*.gif", "*.png,*.gif", "x.png", "b*"])
    assert [note.split("'")[1] for note in notes] == ["*.gif", "*.png,*.gif", "x.png", "b*"]
    assert "commas" in notes[1]
    assert "quotes" in notes[2]


def test_exclude_that_leaves_nothing() -> None:
    photo("in/a.jpg")
    for error in (
        refusal("in", exclude=["*"]),
        refusal("in", exclude=["in"]),
        refusal("in/*.jpg", exclude=["*.jpg"]),
    ):
        assert error.code == ExitCode.NO_INPUT
        assert "--exclude" in error.message


def test_collisions_lead_to_what_keeps_the_results_apart() -> None:
    photo("in/a.jpg", "in/a.png", "in/b.jpg", "in/b.png", "one/x.jpg", "two/x.jpg", "in2/a.jpg", "in2/A.jpg")

    def hint(*arguments: str) -> str:
        with pytest.raises(SanError) as caught:
            check_collisions(search(*arguments)[0].images)
        return caught.value.hint

    assert "--exclude '*.png'" in hint("in")
    check_collisions(search("in", exclude=["*.png"])[0].images)
    assert "| san predict -" in hint("one/x.jpg", "two/x.jpg")
    check_collisions(search("-", stdin=b"one/x.jpg\ntwo/x.jpg")[0].images)
    assert "Rename" in hint("in2")


# Files that are something else


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.zip", b"PK\x03\x04", "unpack"),
        ("a.jpg", b"PK\x03\x04", "unpack"),
        ("a.tar", bytes(257) + b"ustar", "unpack"),
        ("a.rar", b"Rar!\x1a\x07", "unpack"),
        ("a.tar.gz", b"\x1f\x8b\x08", "unpack"),
        ("a.mp4", FTYP + b"mp42", "ffmpeg"),
        ("a", FTYP + b"isom", "ffmpeg"),
        ("a.mkv", b"\x1aE\xdf\xa3", "ffmpeg"),
        ("a.pdf", b"%PDF-1.7", "pdftoppm"),
        ("a.heic", FTYP + b"heic", "HEIC"),
        ("a.jpg", FTYP + b"heic", "HEIC"),
        ("a.jxl", b"\xff\x0a\x00", "JPEG XL"),
        ("a.NEF", b"II*\0" + bytes(99), "camera raw"),
        ("a.svg", b"<svg xmlns='x'>", "SVG"),
        ("a.psd", b"8BPS", "Photoshop"),
        ("a.dcm", bytes(128) + b"DICM", "DICOM"),
        ("a.npy", b"\x93NUMPY", "NumPy"),
        ("a.npz", b"PK\x03\x04", "NumPy"),
        ("a.pth", b"PK\x03\x04", "--weights"),
        ("predictions.json", b'{"images": []}', "JSON"),
        ("labels.xml", b"<annotation>", "XML"),
        ("a.csv", b"image,label\nx.jpg,1\n", "cut -d, -f1 a.csv | san predict -"),
        ("notes.md", b"# words\n", "san predict - < notes.md"),
        ("my list.txt", b"# photos\nx.jpg\n", "san predict - < 'my list.txt'"),
        ("lists/l.txt", b"y.jpg\n", "(cd lists && san predict - < l.txt)"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.jpg", b"<!DOCTYPE html>", "web page"),
        ("a.jpg", b"", "empty"),
        ("a.jpg", b"nonsense", "not an image"),
        ("a.ppm", b"P6\n400 250\n255\n", "--max-pixels 100000"),
    ],
)
def test_files_that_are_no_image(name: str, data: bytes, told: str) -> None:
    photo("x.jpg", "lists/y.jpg")
    Path(name).write_bytes(data)
    assert told in failure(name)


def test_a_broken_link_and_a_pipe() -> None:
    Path("link.jpg").symlink_to("nowhere")
    os.mkfifo("pipe.jpg")
    assert "broken link" in failure("link.jpg")
    assert "pipe" in failure("pipe.jpg")


def test_a_bomb_is_seen_in_its_header() -> None:
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    chunks = b"\0\0\0\x0d" + header + zlib.crc32(header).to_bytes(4, "big") + b"\0\0\0\x09IDAT" + bytes(9)
    Path("bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    found = fail_unreadable(search("bomb.png")[0], 178_956_970)
    assert "--max-pixels 3600000000" in found.failures[0].cause


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_images_of_all_formats_pass(kind: str) -> None:
    with Path("odd").open("wb") as file:
        Image.open(io.BytesIO(JPEG.getvalue())).save(file, kind)
    assert instead_of_image("odd") == ""
    assert names("*") == ["odd"]
    assert fail_unreadable(search("odd")[0], 10_000).images


def test_one_good_image_is_enough_to_go_on() -> None:
    photo("in/b.jpg")
    Path("in/a.jpg").touch()
    assert len(fail_unreadable(search("in")[0], 10_000).images) == 2


# Paths that are something else


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("photos", "mean photo?"),
        ("Photo", "mean photo?"),
        ("photos/x.jpg", "mean photo/x.jpg?"),
        ("photo/x.JPG", "mean photo/x.jpg?"),
        ("photo/x.jpeg", "mean photo/x.jpg?"),
        ("photo/x", "photo/x.jpg: paths need their suffix"),
        ("photo\\x.jpg", "there is photo/x.jpg"),
        ("$HOME/photo/x.jpg", "there is "),
        ("photo/a\\ b.jpg", "'photo/a b.jpg'"),
        ("photo/x.jpg,photo/y.jpg", "several paths"),
        ("photo/x.jpg photo/y.jpg", "several paths"),
        ("photo/x.jpg,cat,3", "cut -d, -f1"),
        ("photo/x.jpg 3", "cut -d' ' -f1"),
        ("photo/x.jpg\t3", "cut -f1"),
        ("d41d8cd9  photo/x.jpg", "last column"),
        ("-rw-r--r-- 1 me me 12 Jan  1 12:00 photo/z.jpg", "find"),
        ("https://example.org/a.jpg", "curl"),
        ("https://example.org/a.jpg?w=640", "curl"),
        ("s3://bucket/a.jpg", "copy"),
        ("file:///nowhere/a%20b.jpg", "/nowhere/a b.jpg"),
        ("data:image/png;base64,AAAA", "data"),
        ("C:\\Users\\me\\x.jpg", "/mnt/c/Users/me/x.jpg"),
        ("\\\\server\\share\\x.jpg", "Windows"),
        ("server:/data/x.jpg", "another machine"),
        ("me@server:x.jpg", "another machine"),
        ("@list.txt", "san predict - < list.txt"),
        ("photo/*.JPG", "capitals"),
        ("folders/*", "**/*"),
        ("photos/*.jpg", "did you mean photo?"),
        ("", "empty"),
    ],
)
def test_texts_that_name_nothing(text: str, told: str) -> None:
    photo("photo/x.jpg", "photo/y.jpg", "photo/a b.jpg", "folders/below/z.jpg")
    Path("list.txt").write_text("photo/x.jpg\n")
    assert told in failure(text)


@pytest.mark.parametrize(
    "text", ["IMG_0002.jpg", "zebra.jpg", "nowhere/deep/x.jpg", "x" * 5000, "nul\0", "a'b"]
)
def test_no_false_suggestion(text: str) -> None:
    photo("IMG_0001.jpg", "x.jpg")
    assert why_missing(text) + did_you_mean(text) == ""


@pytest.mark.parametrize("dress", ["{}", " {} ", "'{}'", '"{}"', "file://{}", "file://localhost{}", "{}\t"])
def test_other_spellings_of_a_path_are_understood(workplace: Path, dress: str) -> None:
    photo("a b.jpg")
    path = f"{workplace}/a b.jpg"
    assert as_meant(dress.format(path)) == path
    assert as_meant("~/a b.jpg") == path
    assert as_meant(dress.format("gone.jpg")) == dress.format("gone.jpg")


def test_what_is_there_is_taken_literally() -> None:
    for name in ("~", " x.jpg", "'x.jpg'", "#x.jpg", "x.jpg"):
        photo(f"{name}/y.jpg" if name == "~" else name)
    assert names("~", " x.jpg", "'x.jpg'", "#x.jpg") == ["~/y.jpg", " x.jpg", "'x.jpg'", "#x.jpg"]
    assert names("-", stdin=b" x.jpg\n'x.jpg'\n#x.jpg\nx.jpg") == [" x.jpg", "'x.jpg'", "#x.jpg", "x.jpg"]


def test_home_in_patterns_and_lists() -> None:
    photo("photo/x.jpg")
    assert names("~/photo/*.jpg") == names("~/photo") == ["x.jpg"]
    assert names("-", stdin=b"~/photo/x.jpg\n") == ["x.jpg"]


@given(st.text(max_size=30))
def test_any_text_is_told_in_one_line(text: str) -> None:
    assert (why_missing(text) + did_you_mean(text)).isprintable()
    assert isinstance(as_meant(text), str)


# Lists


@pytest.mark.parametrize(
    ("data", "code", "told"),
    [
        (JPEG.getvalue(), 4, "image"),
        (b"PK\x03\x04" + bytes(40), 4, "ZIP"),
        (b'["x.jpg", "y.jpg"]', 4, "JSON"),
        (b"['x.jpg', 'y.jpg']\n", 4, "Python"),
        (b'{"images": []}', 4, "JSON"),
        (b"<annotations>\n", 4, "XML"),
        (b"x.jpg\0y.jpg\0", 2, "NUL"),
    ],
)
def test_stdin_that_holds_no_list(data: bytes, code: int, told: str) -> None:
    error = refusal("-", stdin=data)
    assert error.code == code
    assert told in error.message


def test_nulls_that_are_not_there() -> None:
    photo("x.jpg", "y.jpg")
    assert "-0" in refusal("-", stdin=b"x.jpg\ny.jpg\n", null_separated=True).hint
    assert names("-", stdin=b"x.jpg", null_separated=True) == ["x.jpg"]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: b"# my photos\n" + text.encode(),
        lambda text: "".join(f'"{line}"\t\n' for line in text.split()).encode(),
    ],
)
def test_lists_as_programs_write_them(encode: Callable[[str], bytes]) -> None:
    photo("x.jpg", "süß.jpg")
    assert names("-", stdin=encode("x.jpg\nsüß.jpg\n")) == ["x.jpg", "süß.jpg"]


def test_comments_in_a_list_are_counted() -> None:
    photo("x.jpg")
    found, notes = search("-", stdin=b"# a\nx.jpg\n#b\n")
    assert (len(found.images), found.failures) == (1, ())
    assert "2" in notes[0]


def test_a_pattern_in_a_list() -> None:
    photo("in/x.jpg")
    assert "pattern" in failure("-", b"in/*.jpg\n")
    assert "braces" in failure("-", b"in/{a,b}.jpg\n")


# The program


@pytest.mark.parametrize(
    ("arguments", "stdin", "told"),
    [
        (["photos.zip"], b"", "no image in photos.zip: 1 file seen (1 .txt)"),
        (["list.txt"], b"", "san predict - < list.txt"),
        (["-"], JPEG.getvalue(), "image"),
        (["-"], b"https://example.org/a.jpg\n", "curl"),
        (["-"], b"gone/x.jpg\n", "Relative paths"),
        (["empty.jpg"], b"", "empty.jpg: empty file"),
        (["x.jpg", "--max-pixels", "100"], b"", "--max-pixels 3072"),
        (["in", "--exclude", "*"], b"", "--exclude"),
    ],
)
def test_told_before_the_model_is_looked_for(san: San, arguments: list[str], stdin: bytes, told: str) -> None:
    photo("x.jpg", "in/y.jpg")
    Path("empty.jpg").touch()
    Path("list.txt").write_text("x.jpg\n")
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write("list.txt")
    before = tree(Path())
    ended = san("predict", *arguments, "--vocab", "voc", "--weights", "not-there.pth", stdin=stdin)
    assert ended.code == 4
    assert told in ended.err
    assert "not-there" not in ended.err
    assert ended.out == ""
    assert tree(Path()) == before


def test_all_that_fails_early_has_its_line(san: San) -> None:
    Path("in").mkdir()
    Path("in/a.jpg").touch()
    Path("in/b.jpg").write_bytes(b"nonsense")
    ended = san("predict", "in", "gone.jpg", "--vocab", "voc", "--weights", "not-there.pth", "--jsonl")
    assert ended.code == 4
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["input"] for line in lines] == ["in/a.jpg", "in/b.jpg", "gone.jpg"]
    assert all(line["error"] for line in lines)
    assert ended.err.count("failed: ") == 3


def test_excluded_and_left_out_end_to_end(predict: San, photos: Path, tmp_path: Path) -> None:
    (photos / "mask.png").write_bytes((photos / "p00.jpg").read_bytes())
    ended = predict(
        photos, "-o", tmp_path / "one", "--exclude", "*.png", "--exclude", "sub", "--save", "labels"
    )
    assert (ended.code, "3 done" in ended.err) == (0, True)
    ended = predict(photos, "-o", tmp_path / "one", "--exclude", "*.png", "--save", "labels")
    assert "3 done, 3 done before" in ended.err
    ended = predict(photos.parent, "-o", tmp_path / "two", "--save", "labels", "-0")
    assert (ended.code, "7 done" in ended.err) == (0, True)
    assert "-0 is about" in ended.err
    assert not any("labels.labels" in name for name in tree(tmp_path / "two"))


def test_a_run_goes_on_where_nothing_can_be_read_any_more(predict: San, photos: Path, tmp_path: Path) -> None:
    """The early end must not keep a run from bringing its folder up to date."""
    predict(photos / "p00.jpg", "-o", tmp_path / "out")
    (photos / "p00.jpg").write_bytes(b"broken now")
    ended = predict(photos / "p00.jpg", "-o", tmp_path / "out")
    assert ended.code == 4
    assert "failed: p00.jpg" in ended.err


def test_suffixes_are_disjoint() -> None:
    from san_cli.datasets.foreign_formats import MEDIA_SUFFIXES

    assert not IMAGE_SUFFIXES & MEDIA_SUFFIXES
