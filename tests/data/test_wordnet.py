"""WordNet's nouns from its own files and from a table: what is read, and what is said of files that are not right."""

import gzip

import pytest

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data.wordnet import Synset, noun_names, read_synsets
from tests.check import raises_sentence

LICENCE = "  1 This line stands for the licence at the head of the file.  \n"
DATA = [
    "00000100 03 n 01 thing 0 002 ~ 00000200 n 0000 + 00009000 v 0101 | whatever there is",
    '00000200 05 n 03 hound 0 Guide_dog 0 dog 1 002 @ 00000100 n 0000 ~i 00000300 n 0000 | it barks; "the dog barked"',
    "00000300 05 n 0a Rex 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 001 @i 00000200 n 0000 | one hound | of many",
]
INDEX = [
    "dog n 1 2 @ ~ 1 1 00000200  ",
    "guide_dog n 1 1 @ 1 0 00000200  ",
    "thing n 1 1 ~ 1 1 00000100  ",
]
SYNSETS = [
    Synset("00000100", 3, ("thing",), (), "whatever there is"),
    Synset("00000200", 5, ("hound", "Guide_dog", "dog"), ("00000100",), 'it barks; "the dog barked"'),
    Synset("00000300", 5, ("Rex", *"bcdefghij"), ("00000200",), "one hound | of many"),
]


def written(folder, data=DATA, index=INDEX):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.noun").write_text(LICENCE + "".join(f"{line}  \n" for line in data), encoding="utf-8")
    if index is not None:
        (folder / "index.noun").write_text(LICENCE + "".join(f"{line}\n" for line in index), encoding="utf-8")
    return folder


def table(path, rows, header="offset\tlexfile\tlemmas\thypernym\tgloss"):
    text = "\n".join([header, *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("where", ["", "dict", "dict/data.noun", "dict/index.noun"])
def test_own_files(tmp_path, where):
    written(tmp_path / "dict")
    assert read_synsets(tmp_path / where) == SYNSETS


def test_own_files_without_the_index(tmp_path):
    assert read_synsets(written(tmp_path, index=None)) == SYNSETS


@pytest.mark.parametrize("name", ["nouns.tsv", "nouns.tsv.gz"])
def test_a_table_says_the_same(tmp_path, name):
    rows = ["\t".join([s.offset, f"{s.lexfile}", "|".join(s.lemmas), "|".join(s.hypernyms), s.gloss]) for s in SYNSETS]
    assert read_synsets(table(tmp_path / name, rows)) == SYNSETS


def test_a_table_of_nouns_alone(tmp_path):
    found = read_synsets(table(tmp_path / "nouns.tsv", ["cat|puss", "", "dog"], header="lemmas"))
    assert [synset.lemmas for synset in found] == [("cat", "puss"), ("dog",)]


def test_names_come_once_and_as_written_in_a_sentence():
    synsets = [*SYNSETS[:2], Synset("", 0, ("Dog", "lap_dog"))]
    assert noun_names(synsets) == ["thing", "hound", "Guide dog", "dog", "lap dog"]
    assert noun_names([Synset("", 0, ("CAT", "C.A.T.")), Synset("", 0, ("cat",))]) == ["cat", "C.A.T."]
    assert noun_names(synsets, first=True) == ["thing", "hound", "Dog"]
    assert noun_names(synsets, single_word=True) == ["thing", "hound", "dog"]
    assert noun_names([]) == []


BAD_FILES = {
    "cut off": ([DATA[0], DATA[1][:40]], None, ["data.noun, line 3", "synset"]),
    "a verb": (["00000100 29 v 01 breathe 0 000 01 + 02 00 | draw air"], None, ["line 2", "nouns"]),
    "too few pointers": (["00000100 03 n 01 thing 0 002 ~ 00000200 n 0000 | a"], None, ["line 2", "nouns"]),
    "no number": (["0000x100 03 n 01 thing 0 000 | a"], None, ["line 2", "nouns"]),
    "no words": (["00000100 03 n 00 000 | a"], None, ["line 2"]),
    "nothing": ([], None, ["none", "again"]),
    "another index": (DATA, [*INDEX, "cat n 1 0 1 0 00000200"], ["index.noun, line 5", "'cat'", "one version"]),
    "an index of offsets unknown": (DATA, ["dog n 1 0 1 0 00000999"], ["line 2", "00000999", "one version"]),
    "an index without offsets": (DATA, ["dog n 0 0 1 0 00000200"], ["line 2", "'dog'"]),
    "an index cut off": (DATA, ["dog"], ["index.noun, line 2", "again"]),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_named_with_the_line(tmp_path, kind):
    data, index, words = BAD_FILES[kind]
    written(tmp_path, data, index)
    with raises_sentence(InputError, *words):
        read_synsets(tmp_path)


BAD_TABLES = {
    "no lemmas": ("offset\tgloss", ["1\ta"], ["lemmas", "offset"]),
    "nothing": ("", [], ["lemmas", "nothing"]),
    "a cell too few": ("offset\tlemmas", ["1\tcat", "2"], ["line 3", "2 cells"]),
    "an empty lemma": ("offset\tlemmas", ["1\tcat||dog"], ["line 2", "lemmas"]),
    "a topic in words": ("lexfile\tlemmas", ["animal\tcat"], ["line 2", "lexfile"]),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_tables_are_named_with_the_line(tmp_path, kind):
    header, rows, words = BAD_TABLES[kind]
    with raises_sentence(InputError, *words):
        read_synsets(table(tmp_path / "nouns.tsv", rows, header))


def test_files_that_cannot_be_read(tmp_path):
    with raises_sentence(InputError, "cannot be read", "dict"):
        read_synsets(tmp_path / "nowhere.tsv")
    with raises_sentence(InputError, "data.noun", "none"):
        read_synsets(tmp_path)
    whole = table(tmp_path / "nouns.tsv.gz", [f"{i}\t1\tcat{i}\t\t" for i in range(100)]).read_bytes()
    for damaged in (whole[:-20], b"no gzip", whole[:40] + b"\0" * 30 + whole[70:]):
        (tmp_path / "cut.tsv.gz").write_bytes(damaged)
        with raises_sentence(InputError, "cut.tsv.gz"):
            read_synsets(tmp_path / "cut.tsv.gz")
    (tmp_path / "latin.tsv").write_bytes("lemmas\ncafé\n".encode("latin-1"))
    with raises_sentence(InputError, "UTF-8"):
        read_synsets(tmp_path / "latin.tsv")


def test_wordnet_itself(data_dir):
    """The counts are those of WordNet 3.0 (wnstats): 82,115 synsets of 117,798 nouns."""
    synsets = read_synsets(data_dir / "wordnet_nouns.tsv.gz")
    assert len(synsets) == 82_115
    assert len(noun_names(synsets)) == 117_798
    known = {synset.offset: synset for synset in synsets}
    assert len(known) == len(synsets)
    assert [s.lemmas[0] for s in synsets if not s.hypernyms] == ["entity"]
    assert all(above in known for synset in synsets for above in synset.hypernyms)
    dog = next(s for s in synsets if "domestic_dog" in s.lemmas)
    assert dog.lexfile == 5 and "dog" in dog.lemmas
