"""INPUT arguments to a list of images: every kind of argument, odd names, links, lists, what is left out."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.errors import ExitCode, SanError
from san_cli.predict.input_hints import nothing_usable
from san_cli.predict.inputs import Listing, discover
from san_cli.predict.lists import names_in_list
from san_cli.predict.search import matches


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def listing(*arguments: str, **options: object) -> Listing:
    return discover(arguments, say=lambda text: None, **options)  # type: ignore[arg-type]


def names(*arguments: str, **options: object) -> list[str]:
    return [image.name for image in listing(*arguments, **options).images]


def from_list(data: bytes, **options: object) -> Listing:
    return listing("-", stdin=io.BytesIO(data), **options)


def notes(*arguments: str, **options: object) -> list[str]:
    said: list[str] = []
    discover(arguments, say=said.append, **options)  # type: ignore[arg-type]
    return said


# Folders


def test_folder_is_listed_recursively_by_bytes() -> None:
    make("in/b.jpg", "in/B.JPG", "in/a/z.png", "in/a-b.webp", "in/é.tif", "in/n.txt", "in/a/deep/er/1.gif")
    assert names("in") == ["B.JPG", "a-b.webp", "a/deep/er/1.gif", "a/z.png", "b.jpg", "é.tif"]
    assert listing("in").images[2].path == Path("in/a/deep/er/1.gif")
    assert names("in/") == names("./in") == names("in/../in") == names("in")


def test_folder_without_recursion() -> None:
    make("in/a.jpg", "in/sub/b.jpg")
    assert names("in", recursive=False) == ["a.jpg"]
    with pytest.raises(SanError, match="no-recursive"):
        listing("in/..", recursive=False)


def test_hidden_files_and_folders_are_skipped() -> None:
    make("in/a.jpg", "in/._a.jpg", "in/.hidden/b.jpg", "in/.DS_Store")
    assert names("in") == ["a.jpg"]
    assert names("in/.hidden") == ["b.jpg"]  # unless named


def test_folder_of_results_inside_is_not_searched() -> None:
    make("in/a.jpg", "in/san-out/a.overlay.jpg", "in/san-out/sub/b.overlay.jpg")
    assert names("in", output=Path("in/san-out")) == ["a.jpg"]
    assert names(".", output=Path("in/../in/san-out")) == ["in/a.jpg"]
    Path("in/results").symlink_to("san-out")
    assert names("in", output=Path("in/san-out")) == ["a.jpg"]


def test_results_among_the_inputs_are_refused() -> None:
    make("in/a.jpg", "in/sub/b.jpg", "other/c.jpg")
    with pytest.raises(SanError, match="written among"):
        listing("in", output=Path("in"))
    with pytest.raises(SanError, match="written among"):
        listing("in/*.jpg", output=Path("in"))
    with pytest.raises(SanError, match="written among"):
        listing("in", "other", output=Path())  # would write in/a.overlay.jpg
    assert names("in", output=Path()) == ["a.jpg", "sub/b.jpg"]  # writes a.overlay.jpg beside `in`


def test_several_arguments_keep_the_folders_names() -> None:
    make("x/a/1.jpg", "y/b/1.jpg", "2.jpg", "3.jpg")
    assert names("x/a", "y/b/") == ["a/1.jpg", "b/1.jpg"]
    assert names("x/a", "2.jpg") == ["a/1.jpg", "2.jpg"]
    assert names("y/../x", ".") == ["x/a/1.jpg", "2.jpg", "3.jpg", "y/b/1.jpg"]
    assert names("x/a/*.jpg", "y/b/*.jpg") == ["a/1.jpg", "b/1.jpg"]


def test_photographs_that_cannot_be_read_fail_instead_of_vanishing() -> None:
    make("in/a.jpg", "in/b.HEIC", "in/c.nef", "in/d.jxl", "in/d.svg")
    found = listing("in")
    assert [image.name for image in found.images] == ["a.jpg"]
    assert [name for name, *_ in found.failures] == ["b.HEIC", "c.nef", "d.jxl"]
    assert "HEIC" in found.failures[0][1]


def test_raw_beside_its_jpeg_is_left_out_with_a_note() -> None:
    make("in/a.jpg", "in/a.CR2", "in/sub/a.CR2")
    assert [name for name, *_ in listing("in").failures] == ["sub/a.CR2"]
    assert any("a.CR2" in note for note in notes("in"))


# Files


def test_named_files_are_taken_whatever_their_suffix() -> None:
    make("in/photo", "in/data.bin", ".hidden.jpg", "x.heic")
    found = names("in/photo", "in/data.bin", ".hidden.jpg", "x.heic")
    assert found == ["photo", "data.bin", ".hidden.jpg", "x.heic"]


def test_order_of_arguments_is_kept() -> None:
    make("b.jpg", "a.jpg", "c/1.jpg")
    assert names("c", "b.jpg", "a.jpg") == ["c/1.jpg", "b.jpg", "a.jpg"]


def test_missing_argument_is_a_failed_input() -> None:
    make("a.jpg")
    found = listing("a.jpg", "gone.jpg", "a.jpg/b.jpg", "", "x" * 300, "nul\0name")
    assert [image.name for image in found.images] == ["a.jpg"]
    assert [name for name, *_ in found.failures] == ["gone.jpg", "a.jpg/b.jpg", "", "x" * 300, "nul\0name"]
    assert all(cause.isprintable() for _, cause, _ in found.failures)


def test_pipes_and_broken_links_are_listed_for_the_loader_to_refuse() -> None:
    make("in/a.jpg")
    os.mkfifo("in/pipe.jpg")
    Path("in/broken.jpg").symlink_to("nowhere.jpg")
    Path("in/loop.jpg").symlink_to("loop.jpg")
    assert names("in") == ["a.jpg", "broken.jpg", "loop.jpg", "pipe.jpg"]


# Patterns


def test_patterns() -> None:
    make("in/a.jpg", "in/b.png", "in/c.txt", "in/sub/d.jpg", "in/sub/deep/e.jpg", "in/.hidden/f.jpg")
    make("in/sub/g.dat")
    assert names("in/*.jpg") == ["a.jpg"]
    assert names("in/**/*.jpg") == ["a.jpg", "sub/d.jpg", "sub/deep/e.jpg"]
    assert names("in/*/*.jpg") == ["sub/d.jpg"]
    assert names("in/*") == ["a.jpg", "b.png"]
    assert names("in/**") == ["a.jpg", "b.png", "sub/d.jpg", "sub/deep/e.jpg"]
    assert names("in/[ab].*") == ["a.jpg", "b.png"]
    assert names("*n/su?/*.jpg") == ["in/sub/d.jpg"]
    assert names("./in/**/*.dat") == ["sub/g.dat"]
    assert names(f"{Path.cwd()}/in/s*/*.jpg") == ["sub/d.jpg"]
    assert names("in/**/*.jpg", recursive=False) == ["a.jpg", "sub/d.jpg", "sub/deep/e.jpg"]


def test_pattern_that_matches_nothing_is_a_failed_input() -> None:
    make("a.jpg")
    found = listing("a.jpg", "*.png", "gone/*.png")
    assert [name for name, *_ in found.failures] == ["*.png", "gone/*.png"]


def test_what_exists_is_no_pattern() -> None:
    make("[ab].jpg", "a.jpg", "holiday [1]/x*.jpg", "holiday [1]/xy.jpg", "holiday 1/z.jpg")
    assert names("[ab].jpg") == ["[ab].jpg"]
    assert names("holiday [1]") == ["x*.jpg", "xy.jpg"]
    assert names("holiday [1]/*.jpg") == ["x*.jpg", "xy.jpg"]
    assert names("holiday [1]/x*.jpg") == ["x*.jpg"]


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("a/b/c", "**/c", True),
        ("c", "**/c", True),
        ("a/b/c", "a/**", True),
        ("a/b/c", "**/b/**/c", True),
        ("a/b/c", "*/c", False),
        ("a/b", "a/b/**/c", False),
        ("a/x[1]", "a/x[[]1]", True),
        ("a/B", "a/b", False),
    ],
)
def test_matches(name: str, pattern: str, expected: bool) -> None:
    assert matches(name.split("/"), pattern.split("/")) is expected


# Lists on stdin


def test_list_with_all_sorts_of_lines() -> None:
    make("a.jpg", "in/b.jpg", "in/sub/c.jpg", "d e.jpg")
    found = from_list(b"\xef\xbb\xbf./a.jpg\r\n\r\n   \nmissing.jpg\nin\nd e.jpg\na.jpg")
    assert [image.name for image in found.images] == ["a.jpg", "in/b.jpg", "in/sub/c.jpg", "d e.jpg"]
    assert [name for name, *_ in found.failures] == ["missing.jpg"]


def test_nul_separated_list() -> None:
    make("a\nb.jpg", " c.jpg", "d.jpg")
    data = b"a\nb.jpg\0 c.jpg\0\0d.jpg"
    found = from_list(data, null_separated=True)
    assert [image.name for image in found.images] == ["a\nb.jpg", " c.jpg", "d.jpg"]
    with pytest.raises(SanError, match="-0"):
        from_list(data)


def test_absolute_paths_are_named_below_their_common_folder(workplace: Path) -> None:
    make("x/a/1.jpg", "x/b/1.jpg", "rel/2.jpg", "here/.keep")
    top = os.fsencode(workplace)
    data = b"\n".join([top + b"/x/a/1.jpg", top + b"/x/b/1.jpg", b"./rel//2.jpg"])
    assert [image.name for image in from_list(data).images] == ["a/1.jpg", "b/1.jpg", "rel/2.jpg"]
    assert [image.name for image in from_list(top + b"/x/a/1.jpg").images] == ["1.jpg"]
    assert [image.name for image in from_list(top + b"/x/a").images] == ["a/1.jpg"]


def test_climbing_paths_stay_inside_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    make("x/1.jpg", "y/2.jpg", "here/3.jpg")
    monkeypatch.chdir("here")
    found = from_list(b"../x/1.jpg\n../y/2.jpg\n3.jpg\nsub/../3.jpg")
    assert [image.name for image in found.images] == ["x/1.jpg", "y/2.jpg", "3.jpg"]


def test_list_entries_are_no_patterns() -> None:
    make("a.jpg", "*.jpg")
    assert [image.name for image in from_list(b"*.jpg").images] == ["*.jpg"]


@pytest.mark.parametrize("data", [b"", b"\n\r\n \n"])
def test_empty_list(data: bytes) -> None:
    with pytest.raises(SanError, match="empty") as caught:
        from_list(data)
    assert caught.value.code == ExitCode.NO_INPUT


def test_closed_stdin() -> None:
    with pytest.raises(SanError, match="closed"):
        listing("-")


# Links and files reached twice


def test_file_is_taken_once_under_its_own_name() -> None:
    make("in/z.jpg", "in/sub/y.jpg")
    Path("in/a-link.jpg").symlink_to("z.jpg")
    Path("in/again.jpg").symlink_to("sub/y.jpg")
    assert names("in") == ["sub/y.jpg", "z.jpg"]
    assert names("in", "in/z.jpg", "in/sub", "./in/z.jpg") == ["in/sub/y.jpg", "in/z.jpg"]
    assert any("once" in note for note in notes("in"))


def test_links_out_of_the_tree_are_followed() -> None:
    make("in/a.jpg", "elsewhere/b.jpg", "far/c.jpg")
    Path("in/link.jpg").symlink_to("../elsewhere/b.jpg")
    Path("in/folder").symlink_to("../far")
    assert names("in") == ["a.jpg", "folder/c.jpg", "link.jpg"]


def test_hard_links_are_two_files() -> None:
    make("in/a.jpg")
    os.link("in/a.jpg", "in/b.jpg")
    assert names("in") == ["a.jpg", "b.jpg"]


def test_folder_links_list_each_folder_once_under_its_own_name() -> None:
    make("in/real/x.jpg", "in/real/deep/y.jpg")
    Path("in/a-link").symlink_to("real")
    Path("in/b-link").symlink_to("real/deep")
    assert names("in") == ["real/deep/y.jpg", "real/x.jpg"]
    assert any("a-link" in note for note in notes("in"))


def test_link_loops_end() -> None:
    make("in/a.jpg", "in/sub/b.jpg", "other/c.jpg")
    Path("in/sub/up").symlink_to("..")
    Path("in/self").symlink_to(".")
    Path("in/above").symlink_to("../..")
    Path("in/out").symlink_to("../other")
    Path("other/back").symlink_to("../in")
    assert names("in") == ["a.jpg", "out/c.jpg", "sub/b.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_is_a_failed_input() -> None:
    make("in/a.jpg", "in/secret/b.jpg")
    Path("in/secret").chmod(0)
    try:
        found = listing("in")
    finally:
        Path("in/secret").chmod(0o700)
    assert [image.name for image in found.images] == ["a.jpg"]
    assert found.failures == (("in/secret", "unreadable folder: permission denied", "in/secret"),)


def test_too_deep_a_tree_ends_as_a_failed_input() -> None:
    """Paths over the system's limit of 4,096 bytes."""
    make("in/a.jpg")
    at = os.open("in", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=at)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    found = listing("in")
    assert [image.name for image in found.images] == ["a.jpg"]
    assert len(found.failures) == 1


# Names


ODD_NAMES = [
    *("new\nline.jpg", "tab\t.jpg", " space .jpg", "-dash.jpg", "quote'\".jpg", "100%s.jpg"),
    *("\x1b[31m.jpg", "back\\slash.jpg", "[red].jpg", "*.jpg", "🦊.jpg", "é.jpg", "e\u0301.jpg", "..jpg.jpg"),
    *("x" * 251 + ".jpg", os.fsdecode(b"\xff\xfe.jpg")),
]


def test_odd_names_survive() -> None:
    make(*(f"in/{name}" for name in ODD_NAMES))
    found = listing("in")
    visible = sorted((name for name in ODD_NAMES if not name.startswith(".")), key=os.fsencode)
    assert [image.name for image in found.images] == visible
    assert all(image.path.exists() for image in found.images)
    for name in ODD_NAMES:
        assert names(f"in/{name}") == [name]


def test_odd_names_in_a_list() -> None:
    make(*(f"in/{name}" for name in ODD_NAMES))
    data = b"\0".join(os.fsencode(f"in/{name}") for name in ODD_NAMES)
    found = from_list(data, null_separated=True)
    assert [image.name for image in found.images] == [f"in/{name}" for name in ODD_NAMES]


def test_messages_are_harmless() -> None:
    make("in/\x1b[31mevil\n.jpg", "in/\x1b[31mevil\n.cr2")
    Path("in/\x1b[32m").symlink_to(".")
    assert all(note.isprintable() for note in notes("in", "in"))
    assert len(notes("in", "in")) == 3
    assert nothing_usable(listing("in/\x1b[33m\n.jpg").failures).message.isprintable()


path_parts = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), min_size=1, max_size=5)


@given(st.lists(st.lists(st.sampled_from(["..", ".", "a", "b", ""]) | path_parts, min_size=1).map("/".join)))
def test_names_from_a_list_never_leave_the_results(paths: list[str]) -> None:
    for path, name in zip(paths, names_in_list(paths), strict=True):
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert name.rpartition("/")[2] in ("", Path(path).resolve().name)


# Nothing to do


def test_no_image_says_what_was_seen() -> None:
    make("in/a.txt", "in/b.TXT", "in/c.md", "in/README")
    with pytest.raises(SanError) as caught:
        listing("in")
    assert caught.value.code == ExitCode.NO_INPUT
    assert caught.value.message == "no image in in: 4 files seen (2 .txt, 1 without suffix, 1 .md)"
    assert "suffix" in caught.value.hint


def test_only_failures_are_no_input() -> None:
    found = listing("gone.jpg", "gone too.jpg")
    assert (found.images, [failure.path for failure in found.failures]) == ((), ["gone.jpg", "gone too.jpg"])
    error = nothing_usable(found.failures)
    assert error.code == ExitCode.NO_INPUT
    assert "gone.jpg" in error.message


def test_empty_folder_beside_a_full_one_is_noted() -> None:
    make("in/a.jpg")
    Path("empty").mkdir()
    assert any("empty" in note for note in notes("in", "empty"))
