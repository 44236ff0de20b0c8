"""Links to the images: made once, mended, removed, and copies where there are no links."""

from pathlib import Path

import pytest

from san_cli.outputs.annotations.yolo import leads_to, link_image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "ä b.jpg"
    path.write_bytes(b"a photograph")
    return path


@pytest.fixture
def link(tmp_path: Path) -> Path:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    return tmp_path / "images" / "sub" / "a.jpg"


def no_links(*_: object, **__: object) -> None:
    raise OSError("not here")


def test_a_link_leads_to_the_image_from_anywhere(
    image: Path, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    link_image(link, Path(image.name))
    assert link.is_symlink()
    assert link.readlink().is_absolute()
    assert link.read_bytes() == b"a photograph"
    assert leads_to(link, image)


def test_nothing_happens_the_second_time(image: Path, link: Path) -> None:
    link_image(link, image)
    before = link.lstat().st_ino
    link_image(link, image)
    assert link.lstat().st_ino == before
    assert list(link.parent.iterdir()) == [link]


def test_a_link_to_another_image_is_replaced_and_a_file_is_not(image: Path, link: Path) -> None:
    link.symlink_to(image.parent / "gone.jpg")
    link_image(link, image)
    assert leads_to(link, image)
    link.unlink()
    link.write_bytes(b"somebody's own photograph")
    with pytest.raises(FileExistsError):
        link_image(link, image)
    assert link.read_bytes() == b"somebody's own photograph"


def test_a_hard_link_where_there_are_no_others(
    image: Path, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "symlink_to", no_links)
    for _ in range(2):
        link_image(link, image)
        assert link.samefile(image)
        assert not link.is_symlink()
        assert list(link.parent.iterdir()) == [link]


def test_a_copy_where_there_are_none(image: Path, link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "symlink_to", no_links)
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    link_image(link, image)
    before = link.stat().st_ino
    link_image(link, image)
    assert link.stat().st_ino == before
    assert list(link.parent.iterdir()) == [link]


def test_a_link_that_cannot_be_made_leaves_nothing(
    image: Path, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "symlink_to", no_links)
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    with pytest.raises(OSError, match=r"gone\.jpg"):
        link_image(link, image.parent / "gone.jpg")
    assert list(link.parent.iterdir()) == []
