"""Class files as people have them: read where there is no doubt, otherwise refused with what they are."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program import San

from san_cli.errors import ExitCode, SanError
from san_cli.outputs.label_map import write_class_table
from san_cli.vocabulary.class_files import ClassFile, read_class_file, read_label_classes
from san_cli.vocabulary.grammar import parse_vocabulary

COCO = {"images": [], "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]}
CVAT = [{"name": "cat", "id": 512, "color": "#f00", "attributes": []}, {"name": "dog", "attributes": []}]
HUGGING_FACE = {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}, "num_labels": 2}
OURS = [{"name": "tv", "words": ["tv", "television"]}, {"name": "dog", "words": ["dog"]}]


def refusal(path: Path) -> SanError:
    with pytest.raises(SanError) as caught:
        read_class_file(str(path))
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.hint
    return caught.value


def written(tmp_path: Path, name: str, content: object) -> Path:
    path = tmp_path / name
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


READ = [
    ("list.json", ["cat", "dog"], "JSON list", "cat dog", None),
    ("pretty.txt", json.dumps(["cat", "dog"], indent=2), "JSON list", "cat dog", None),
    ("bom.json", b'\xef\xbb\xbf["cat", "dog"]', "JSON list", "cat dog", None),
    ("literal.json", ["a|b", "c # d"], "JSON list", "a|b;c # d", None),
    ("id2label.json", {"10": "sky", "2": "cat"}, "id → name", "cat sky", (2, 10)),
    ("label2id.json", {"dog": 1, "cat": 0}, "name → id", "cat dog", (0, 1)),
    ("config.json", HUGGING_FACE, "Hugging Face", "cat dog", (0, 1)),
    ("coco.json", COCO, "COCO", "person car", (1, 3)),
    ("categories.json", COCO["categories"], "COCO", "person car", (1, 3)),
    ("cvat.json", CVAT, "CVAT", "cat dog", None),
    ("detectron2.json", {"stuff_classes": ["cat", "dog"], "ignore_label": 255}, "Detectron2", "cat dog", None),
    ("ours.json", OURS, "san", "tv|television dog", None),
    ("data.yaml", "val: ../valid\nnc: 2\nnames: ['cat', \"dog's\"]\n", "YOLO", "cat dog's", None),
    ("lines.yaml", "names: [\n  no, # a name\n  1e3]\n", "YOLO", "no 1e3", None),
    ("map.yaml", "path: x\nnames:\n  0: cat\n  1: dog\n", "YOLO", "cat dog", (0, 1)),
    ("block.txt", "names:\n- cat\n- dog\n", "YOLO", "cat dog", None),
    ("crlf.yaml", "nc: 1\r\nnames:\r\n- cat\r\n", "YOLO", "cat", None),
    ("coco.names", "cat\ndog\n", "one name a line", "cat dog", None),
    ("numbered.txt", "0 cat\n1 dog|hound\n", "from 0", "cat dog|hound", (0, 1)),
    ("tabs.txt", "0\tcat\n1\tdog\n", "from 0", "cat dog", (0, 1)),
    ("colon.txt", "0: cat\n1: dog, puppy\n", "from 0", "cat;dog, puppy", (0, 1)),
    ("dots.txt", "1. cat\n2. dog\n", "from 1", "cat dog", (1, 2)),
    ("brackets.txt", "1) cat\n\n2) dog # two\n", "from 1", "cat dog", (1, 2)),
    ("bullets.md", "# Classes\n- cat\n- dog\n", "bullets", "cat dog", None),
    ("synsets.txt", "n01440764 tench, T. tinca\nn01443537 fish\n", "WordNet", "tench, T. tinca;fish", None),
    ("quoted.txt", '"0 cat"\n"1 dog"\n', "one name a line", "0 cat;1 dog", None),
    ("commas.txt", "building, edifice\nsky, heaven\n", "one name a line", "building, edifice;sky, heaven", None),
    ("numbers in names.txt", "4x4\nroute 66\n7 seas\ncar\n", "one name a line", "4x4;route 66;7 seas;car", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "kind", "names", "ids"), READ, ids=[row[0] for row in READ])
def test_what_is_certain_is_read(
    tmp_path: Path, name: str, content: object, kind: str, names: str, ids: tuple[int, ...] | None
) -> None:
    path = written(tmp_path, name, content)
    found = read_class_file(str(path))
    expected = names.split(";") if ";" in names else names.split(" ")
    assert ["|".join(words) for words in found.groups] == ["a|b" if one == "a|b" else one for one in expected]
    assert found.ids == ids
    assert kind in found.kind
    vocabulary = parse_vocabulary([f'@"{path}"'])
    notes = vocabulary.notes
    assert [entry.words for entry in vocabulary.entries] == list(found.groups)
    assert notes[0] == found.note
    assert path.name in found.note and kind in found.note


REFUSED = [
    ("classes.csv", "id,name\n0,background\n1,skin\n", "table", "cut -d, -f2"),
    ("class_dict.csv", "name,r,g,b\nroad,128,64,128\n", "table", "cut -d, -f1"),
    ("no header.txt", "0,cat\n1,dog\n", "table", "-f2"),
    ("pipes.txt", "0|cat\n1|dog\n", "table", "-f2"),
    ("semicolons.txt", "cat;0\ndog;1\n", "table", "-f1"),
    ("_classes.csv", "filename, cat, dog\na.jpg, 1, 0\n", "table", "first line"),
    ("open images.csv", "/m/011k07,Tortoise\n/m/01,Cat\n", "table", "-f2"),
    ("objectInfo150.txt", "Idx\tRatio\tName\n1\t0.15\twall\n2\t0.1\tbuilding, edifice\n", "table", "-f3"),
    ("one column.csv", "name\ncat\ndog\n", "header", "Remove"),
    ("camvid.txt", "64 128 64 Animal\n192 0 128 Archway\n", "colours", "names alone"),
    ("numbered colours.txt", "0 road 128 64 128\n1 car 0 0 142\n", "colours", "names alone"),
    ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:1,2,3::\n", "CVAT", "cut -d:"),
    ("labels.txt", "__ignore__\n_background_\naeroplane\n", "labelme", "Remove"),
    ("voc.txt", "__background__\naeroplane\n", "__background__", "background"),
    ("one line.txt", "cat, dog, person\n", "one line", "tr ',;'"),
    ("semicolon.txt", "cat;dog;person", "one line", "tr"),
    ("dots.txt", "cat. dog. person.\n", "full stops", "tr '.'"),
    ("trailing.txt", "cat,\ndog,\nbird\n", "end with ','", "sed"),
    ("dict.txt", "{0: 'tench, Tinca tinca',\n 1: 'goldfish'}\n", "Python", "ast.literal_eval"),
    ("list.txt", "['cat', 'dog']", "Python", "ast.literal_eval"),
    ("tuple.txt", "('cat', 'dog')", "Python", "names alone"),
    ("meta.py", "METAINFO = dict(\n    classes=('wall', 'sky'),\n)\n", "Python", "names alone"),
    ("classes.txt", "CLASSES = ['cat', 'dog']\n", "Python", "names alone"),
    ("conf.toml", 'names = ["cat", "dog"]\n', "TOML", "names alone"),
    ("coco.data", "classes= 80\nnames = data/coco.names\n", "settings", "@data/coco.names"),
    ("label_map.pbtxt", 'item {\n  id: 1\n  name: "cat"\n}\n', "TensorFlow", "names alone"),
    ("studio.xml", '<View>\n<Label value="cat"/>\n</View>\n', "Label Studio", "names alone"),
    ("page.txt", "<!DOCTYPE html>\n<html>cat</html>\n", "web page", "Raw"),
    ("readme.md", "# Classes\n\n```python\nfrom a import b\n```\n", "Markdown", "names alone"),
    ("table.md", "| id | name |\n|---|---|\n| 0 | cat |\n", "Markdown", "names alone"),
    ("gap.txt", "0 cat\n2 dog\n", "numbers", "quotes"),
    ("mixed.txt", "0 cat\n1 dog\nbird\n", "2 of its 3 lines", "quotes"),
    ("single.txt", "0 cat\n", "'0 cat'", "quotes"),
    ("behind.txt", "/a/airfield 0\n/a/alley 1\n", "end with numbers", "order of their ids"),
    ("yolo label.txt", "0 0.5 0.5 0.2 0.3\n1 0.1 0.2 0.3 0.4\n", "numbers", "quotes"),
    ("train.txt", "img/0.jpg\nimg/1.jpg\n", "list of images", "class names"),
    ("wnids.txt", "n01440764\nn01443537\n", "WordNet", "names"),
    ("keys.txt", "train: x\nval: y\n", "key: value", "names alone"),
    ("404.txt", "404: Not Found", "error page", "again"),
    ("lfs.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "one a line"),
    ("bad nc.yaml", "nc: 3\nnames: [cat, dog]\n", "nc is 3", "names alone"),
    ("file.yaml", "nc: 3\nnames: data/coco.names\n", "give it as @FILE", "names alone"),
    ("twice.yaml", "names:\n  0: cat\n  0: dog\n", "comes twice", "names alone"),
    ("tab.yaml", "names:\n\t- cat\n", "line 2", "names alone"),
    ("deep.yaml", "names: " + "[" * 5000, "deep", "names alone"),
    ("both.json", {"thing_classes": ["cat"], "stuff_classes": ["sky"]}, "not clear", "names alone"),
    ("supervisely.json", {"classes": [{"title": "cat"}], "tags": []}, "title", "names alone"),
    ("imagenet.json", {"0": ["n01440764", "tench"]}, "lists", "names alone"),
    ("colours.json", {"cat": [1, 2, 3]}, "no list of classes", "names alone"),
    ("mixed.json", ["cat", 3, None], "null and numbers", "names alone"),
    ("empty name.json", ["cat", " "], "Entry 2", "name"),
    ("placeholders.json", {"0": "LABEL_0", "1": "LABEL_1"}, "placeholders", "names"),
    ("placeholders.txt", "class_0\nclass_1\n", "placeholders", "names"),
    ("placeholders.yaml", "names: [class 1, class 2]\n", "placeholders", "names"),
    ("numbers.json", {"1": "0"}, "placeholders", "names"),
    (
        "ids beside.json",
        {"names": ["cat", "dog"], "ids": [3, 4]},
        "ids or their place in names",
        "names alone",
    ),
    ("twice.json", '{"0": "cat", "0": "dog"}', "comes twice", "Mend"),
    ("ids twice.json", [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], "id 1", "Mend"),
    ("trailing.json", '["cat", "dog",]', "JSON", "Mend"),
    ("lines.jsonl", '{"id":0,"name":"cat"}\n{"id":1,"name":"dog"}\n', "JSON Lines", "names alone"),
    ("empty.json", [], "no names", "one name a line"),
    ("null.json", "null", "neither", "names alone"),
    ("deep.json", "[" * 100_000, "deep", "names alone"),
    ("digits.json", f'[{{"id": {"9" * 5000}, "name": "cat"}}]', "digits", "Mend"),
    ("digits.txt", "9" * 5000 + " cat\n", "5004 characters", "shorter"),
    ("picture.txt", b"\x89PNG\r\n\x1a\n\0\0", "PNG", "one a line"),
    ("archive.txt", b"PK\x03\x04rest", "ZIP", "one a line"),
    ("utf16.txt", "cat\ndog\n".encode("utf-16"), "UTF-16", "iconv -f UTF-16"),
    ("latin1.txt", "café\ndog\n".encode("latin-1"), "UTF-8", "iconv -f LATIN1"),
    ("nul.txt", b"cat\0dog\n", "NUL", "one a line"),
    ("many.txt", "a\n" * 70_000, "65,535", "classes"),
]


@pytest.mark.parametrize(("name", "content", "told", "way"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_not_certain_is_named_and_refused(
    tmp_path: Path, name: str, content: object, told: str, way: str
) -> None:
    error = refusal(written(tmp_path, name, content))
    assert told in error.message
    assert way in error.hint
    assert len(error.message) < 300 + len(str(tmp_path))


def test_a_command_in_a_hint_never_writes_onto_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "names.txt", "cat, dog")
    assert f"< {path} > {tmp_path / 'names-new.txt'}" in refusal(path).hint


def test_a_folder_and_what_is_not_there(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path).message
    assert "no file" in refusal(tmp_path / "nothing.txt").message
    assert "san vocab show coco" in refusal(Path("coco")).hint


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.text("0123 .,:;|\"'[]{}()#-=\tab\n", max_size=40).map(str.encode)
    | st.text("names: \n-[]{}&*!'\"0a", max_size=40).map(lambda text: f"names:{text}".encode())
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["names", "id", "0", "a"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_list_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    for read in (lambda: read_class_file(str(path)), lambda: read_label_classes(str(path))[0]):
        try:
            found: ClassFile = read()
        except SanError:
            continue
        assert len(found.groups) == len(found.places) > 0
        assert all(word.strip() == word != "" for words in found.groups for word in words)


# Classes of labels: nothing may shift the ids


def label_refusal(tmp_path: Path, content: object, name: str = "classes.txt") -> SanError:
    with pytest.raises(SanError) as caught:
        read_label_classes(str(written(tmp_path, name, content)))
    return caught.value


def test_ids_of_labels_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "classes.json", {"1": "dog", "0": "cat"})
    found, notes = read_label_classes(f"@{path}")
    assert found.groups == (("cat",), ("dog",))
    assert notes == ("classes.json: read as id → name, 2 classes: 0 is 'cat', 1 is 'dog'",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("cat\n\ndog\n", "Line 2"),
        ("cat\ndog\n \nbird", "ids 1 and 2"),
        ("cat\ndog\nCat\n", "Line 1 and line 3"),
        ("cat|kitten\ndog|kitten\n", "'kitten'"),
        ("1 cat\n2 dog\n", "label value 0"),
        (COCO, "label value 0"),
        ({"0": "cat", "2": "dog"}, "label value 1"),
    ],
)
def test_what_would_shift_the_ids_is_refused(tmp_path: Path, content: object, told: str) -> None:
    error = label_refusal(tmp_path, content)
    assert told in error.message
    assert error.hint


def test_what_shifts_no_id_is_read(tmp_path: Path) -> None:
    for content in ("# mine\ncat\ndog\n\n\n", "0 cat\n\n1 dog\n", "\ufeffcat\r\ndog"):
        found, notes = read_label_classes(str(written(tmp_path, "classes.txt", content)))
        assert [words[0] for words in found.groups] == ["cat", "dog"]
        assert len(notes) == 1
    assert "line 2" in read_label_classes(str(written(tmp_path, "c.txt", "cat\n# old\ndog\n")))[1][1]


@pytest.mark.parametrize("command", ["eval", "train"])
def test_the_commands_refuse_a_table_of_classes(san: San, tmp_path: Path, command: str) -> None:
    path = written(tmp_path, "classes.csv", "id,name\n0,background\n1,skin\n")
    ended = san(command, "--images", tmp_path, "--labels", tmp_path, "--classes", path)
    assert ended.code == ExitCode.USAGE
    assert "table" in ended.err and "cut -d, -f2" in ended.err


def test_show_tells_what_a_file_was_taken_for(san: San, tmp_path: Path) -> None:
    path = written(tmp_path, "classes.json", {"0": "cat", "1": "dog", "2": "bird"})
    ended = san("vocab", "show", f"@{path}")
    assert (ended.code, ended.out) == (0, "cat\ndog\nbird\n")
    assert "classes.json: read as id → name, 3 classes" in ended.err


@pytest.mark.parametrize(
    "content",
    [
        [{"name": "car", "index": 1}, {"name": "road", "index": 0}],
        {"classes": [{"name": "road", "value": 7}, {"name": "car", "value": 3}]},
        [{"name": "void", "id": 0, "trainId": 255}, {"name": "road", "id": 1, "trainId": 0}],
        [{"name": "road", "attributes": [], "label_id": 3}],
    ],
)
def test_numbers_beside_the_ids_that_differ_are_refused(tmp_path: Path, content: object) -> None:
    assert "not clear" in refusal(written(tmp_path, "classes.json", content)).message


def test_numbers_beside_the_ids_that_agree_are_read(tmp_path: Path) -> None:
    content = [{"name": "road", "id": 0, "trainId": 0}, {"name": "car", "id": 1, "trainId": 1}]
    found = read_class_file(str(written(tmp_path, "classes.json", content)))
    assert (found.groups, found.ids) == ((("road",), ("car",)), (0, 1))


@pytest.mark.parametrize("form", ["({}) {}", "{}/{}", "{}_{}", "{}-{}", "id {} {}", "<{}> {}"])
def test_numbers_in_other_marks_are_no_part_of_names(tmp_path: Path, form: str) -> None:
    lines = "\n".join(form.format(number, name) for number, name in enumerate(["road", "car", "dog"]))
    assert "begin with numbers" in refusal(written(tmp_path, "classes.txt", lines)).message


@pytest.mark.parametrize("form", ["{1} ({0})", "{1} [{0}]"])
def test_numbers_in_brackets_behind_names_are_no_part_of_them(tmp_path: Path, form: str) -> None:
    lines = "\n".join(form.format(number, name) for number, name in enumerate(["road", "car", "dog"]))
    assert "end with numbers" in refusal(written(tmp_path, "classes.txt", lines)).message


@pytest.mark.parametrize("mark", ["->", "=>", "="])
def test_numbers_with_an_arrow_are_ids(tmp_path: Path, mark: str) -> None:
    found = read_class_file(str(written(tmp_path, "classes.txt", f"0 {mark} road\n1 {mark} car\n")))
    assert (found.groups, found.ids) == ((("road",), ("car",)), (0, 1))


def test_the_classes_of_a_run_are_read(tmp_path: Path) -> None:
    """`classes.json`, in which each class has a category_id beside its id, one more."""
    path = tmp_path / "classes.json"
    write_class_table(path, ["dog", "cat"])
    found = read_class_file(str(path))
    assert (found.kind, found.groups, found.ids) == ("a class list of san", (("dog",), ("cat",)), (0, 1))
