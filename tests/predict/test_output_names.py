"""Names of results: pleasant, inside the folder, and never two the same on any file system."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.datasets.image_names import LONGEST_STEM, output_stem
from san_cli.errors import ExitCode, SanError
from san_cli.predict.output_names import RESULTS, check_collisions
from san_cli.predict.search import InputImage


def images(*names: str, folder: str = "in") -> list[InputImage]:
    return [InputImage(Path(folder) / name, name) for name in names]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("photo.jpg", "photo"),
        ("sub.dir/photo.JPEG", "sub.dir/photo"),
        ("photo.2024.png", "photo.2024"),
        ("photo", "photo"),
        ("data.v2", "data.v2"),
        ("scan.heic", "scan"),
        (".jpg", ".jpg"),
        ("a.overlay.jpg", "a.overlay"),
        ("sub/..jpg", "sub/..jpg"),
    ],
)
def test_stem(name: str, stem: str) -> None:
    assert output_stem(name) == stem


@pytest.mark.parametrize("letter", ["x", "é", "🦊", os.fsdecode(b"\xff")])
def test_long_names_are_cut_and_stay_apart(letter: str) -> None:
    longest = letter * (251 // len(os.fsencode(letter)))
    one, other = output_stem(f"sub/{longest}.jpg"), output_stem(f"sub/{longest[:-1]}y.jpg")
    assert one != other
    for stem in (one, other):
        assert len(os.fsencode(stem)) <= LONGEST_STEM + len("sub/")
        assert stem.startswith(f"sub/{letter * 40}")
    check_collisions(images(f"{longest}.jpg", f"{longest[:-1]}y.jpg"))


def test_longest_name_can_be_written(tmp_path: Path) -> None:
    (tmp_path / (output_stem("x" * 251 + ".jpg") + ".overlay.jpg")).touch()


@pytest.mark.parametrize(
    "names",
    [
        ("x.png", "x.jpg"),
        ("x.jpg", "x"),
        ("x.jpg", "X.jpg"),
        ("a/x.jpg", "A/X.png"),
        ("é.jpg", "e\u0301.jpg"),
        ("É.jpg", "e\u0301.png"),
        ("straße.jpg", "STRASSE.jpg"),
        ("a/x.jpg", "a./x.jpg"),
        ("a/x.jpg", "a /x.jpg"),
        ("a.jpg", "a.labels.png/b.jpg"),
        ("a.jpg", "A.Overlay.jpg/deep/b.jpg"),
        ("sub/a.jpg", "sub/a.overlay.jpg/b.jpg"),
        ("predictions.json/a.jpg",),
        ("Index.HTML/a.jpg",),
        ("html/data.js/a.jpg",),
        ("data.js/a.jpg",),
        ("a.jpg", "html/a.photo.jpg/b.jpg"),
        ("a.overlay.jpg/b.jpg", "HTML/a.jpg"),
        ("y" * 251 + ".jpg", "y" * 251 + ".png"),
    ],
)
def test_collisions_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(SanError) as caught:
        check_collisions(images("other.jpg", *names))
    assert caught.value.code == ExitCode.USAGE
    for name in names:
        assert f"in/{name}" in caught.value.message


@pytest.mark.parametrize(
    "names",
    [
        ("a/x.jpg", "b/x.jpg"),
        ("x.jpg", "x.jpg.jpg"),
        ("x.jpg", "x.overlay.jpg", "x.labels.png"),
        ("x.jpg", "x/y.jpg"),
        ("x.jpg", "html/x.jpg", "html/x.photo.jpg", "html.jpg"),
        ("A/x.jpg", "a/y.jpg"),
        ("predictions.jpg", "sub/predictions.json/a.jpg"),
        ("x.jpg", "x..jpg", "x .jpg"),
        ("a.overlay.jpg/x.jpg",),
    ],
)
def test_what_does_not_collide_is_allowed(names: tuple[str, ...]) -> None:
    check_collisions(images(*names))


def test_same_name_from_two_folders_names_both_files() -> None:
    with pytest.raises(SanError, match=r"one/x\.jpg and two/x\.jpg"):
        check_collisions(images("x.jpg", folder="one") + images("x.jpg", folder="two"))


def test_many_pairs_are_counted_and_harmless() -> None:
    with pytest.raises(SanError) as caught:
        check_collisions(images(*(f"\x1b{i}\n.{kind}" for i in range(9) for kind in ("jpg", "png"))))
    assert "6 more pairs" in caught.value.message
    assert caught.value.message.isprintable()


def test_a_result_must_not_hit_an_input(tmp_path: Path) -> None:
    beside = images("a.jpg", "a.labels.png", folder=str(tmp_path))
    check_collisions(beside, tmp_path / "san-out")
    with pytest.raises(SanError, match=r"a\.labels\.png"):
        check_collisions(beside, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SanError, match=r"a\.labels\.png"):
        check_collisions(beside, tmp_path / "link")
    deep = [InputImage(tmp_path / "x.jpg", "sub/x.jpg"), InputImage(tmp_path / "sub/X.overlay.jpg", "y.jpg")]
    with pytest.raises(SanError, match=r"X\.overlay\.jpg"):
        check_collisions(deep, tmp_path)


letters = st.sampled_from(
    ["a", "A", "b", "é", "e\u0301", ".", " ", ".jpg", ".PNG", ".labels.png", ".photo.jpg", "html", ".v2"]
)
parts = st.lists(letters, min_size=1, max_size=4).map("".join).filter(lambda part: part.strip(".") != "")
input_names = st.lists(parts, min_size=1, max_size=3).map("/".join)


@given(st.lists(input_names, unique=True, max_size=8))
def test_accepted_names_have_results_of_their_own(names: list[str]) -> None:
    try:
        check_collisions(images(*names))
    except SanError:
        return
    results = [before + output_stem(name) + after for name in names for before, after in RESULTS]
    assert len({result.casefold() for result in results}) == len(results)
    needed = {str(parent) for result in results for parent in Path(result).parents}
    assert not needed & set(results)
    assert not any(Path(result).is_absolute() or ".." in Path(result).parts for result in results)


@given(input_names)
def test_one_image_alone_never_collides_with_itself(name: str) -> None:
    check_collisions(images(name))


def test_paths_are_those_of_the_files() -> None:
    assert output_stem("a/b/c.tif") + RESULTS[0][1] == "a/b/c.overlay.jpg"
