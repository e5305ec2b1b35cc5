"""WordNet's nouns: read from the files it is published as, or from a table."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyfast_mmcl._errors import InputError

DATA, INDEX = "data.noun", "index.noun"
_COLUMNS = ("offset", "lexfile", "lemmas", "hypernym", "gloss")
_HYPERNYMS = ("@", "@i")  # of a kind and of an instance


@dataclass(frozen=True)
class Synset:
    """Nouns of one meaning.

    offset     its number, eight digits
    lexfile    number of its topic: 3 the most general, 5 animals, 6 artefacts, … 28 times (lexnames(5WN))
    lemmas     the nouns, words joined by "_"
    hypernyms  offsets of what it is a kind, or an instance, of
    gloss      its definition, with examples where the files have them
    """

    offset: str
    lexfile: int
    lemmas: tuple[str, ...]
    hypernyms: tuple[str, ...] = ()
    gloss: str = ""


def read_synsets(path: str | Path) -> list[Synset]:
    """The noun synsets of WordNet, in the order of the file.

    path  a folder with ``data.noun``, as WordNet's ``dict/``, or that folder's parent, or the file; an ``index.noun``
          beside it must speak of the same synsets. Or a table: a text file of columns parted by tabs, gzipped if its
          name ends in .gz, with a header that names at least ``lemmas``, and ``offset``, ``lexfile``, ``hypernym`` and
          ``gloss`` where it has them; several lemmas or hypernyms in one cell are parted by "|"

    Raises InputError for a file that is missing, cut off or of another kind, with the number of the line.

    Reference: wndb(5WN), the format of WordNet's files; Miller, *WordNet: a lexical database for English*, CACM 1995.
    """
    path = Path(path)
    if path.is_dir():
        found = next((folder for folder in (path, path / "dict") if (folder / DATA).is_file()), None)
        if found is None:
            raise InputError(f"{path}: expected WordNet's {DATA} in it, found none; give the folder dict of WordNet.")
        path = found / DATA
    if path.name == INDEX:
        path = path.with_name(DATA)
    if path.name != DATA:
        return list(_table(path))
    synsets = [_synset(line, path, number) for number, line in _lines(path) if not line.startswith(" ")]
    if not synsets:
        raise InputError(f"{path}: expected synsets, found none; fetch the file again.")
    if path.with_name(INDEX).is_file():
        _compare(path.with_name(INDEX), synsets)
    return synsets


def noun_names(synsets: Iterable[Synset], *, first: bool = False, single_word: bool = False) -> list[str]:
    """The nouns as they are written in a sentence, each once, in the order they come; small letters win.

    first        the first lemma of every synset, its usual name, instead of all
    single_word  leave out nouns of several words, those with "_" in WordNet
    """
    names: dict[str, str] = {}
    for synset in synsets:
        for lemma in synset.lemmas[:1] if first else synset.lemmas:
            if single_word and "_" in lemma:
                continue
            # The cat is no CAT, a scan that comes before it.
            if lemma.lower() not in names or lemma.islower():
                names[lemma.lower()] = lemma.replace("_", " ")
    return list(names.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of the lines that are not empty."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); give WordNet's folder dict or a table.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error.reason}); fetch the file again.") from error


def _synset(line: str, path: Path, number: int) -> Synset:
    """offset lexfile type words {lemma id}… pointers {symbol offset type places}… | gloss; ``words`` is hexadecimal."""
    left, _, gloss = line.partition("|")
    fields = left.split()
    try:
        offset, lexfile, kind = fields[0], int(fields[1]), fields[2]
        end = 4 + 2 * int(fields[3], 16)
        lemmas, pointers = fields[4:end:2], int(fields[end])
        rest = fields[end + 1 :]
        symbols, targets = rest[0 : 4 * pointers : 4], rest[1 : 4 * pointers : 4]
    except (IndexError, ValueError) as error:
        raise _bad_line(path, number, line, "a synset of WordNet") from error
    if kind != "n" or not offset.isdigit() or not lemmas or len(targets) != pointers:
        raise _bad_line(path, number, line, "a synset of nouns")
    hypernyms = tuple(target for symbol, target in zip(symbols, targets, strict=True) if symbol in _HYPERNYMS)
    return Synset(offset, lexfile, tuple(lemmas), hypernyms, gloss.strip())


def _compare(path: Path, synsets: list[Synset]) -> None:
    """Whether index.noun lists lemmas of these synsets: files of two versions of WordNet do not fit each other."""
    known = {synset.offset: {lemma.lower() for lemma in synset.lemmas} for synset in synsets}
    for number, line in _lines(path):
        if line.startswith(" "):
            continue
        fields = line.split()
        try:
            offsets = fields[len(fields) - int(fields[2]) :]
        except (IndexError, ValueError) as error:
            raise _bad_line(path, number, line, "a noun with its synsets") from error
        foreign = [offset for offset in offsets if fields[0] not in known.get(offset, ())]
        if foreign or not offsets:
            raise InputError(
                f"{path}, line {number}: {fields[0]!r} has the synsets {offsets}, which {DATA} does not have so; take "
                f"both files from one version of WordNet."
            )


def _table(path: Path) -> Iterator[Synset]:
    lines = _lines(path)
    header = next(lines, (1, ""))[1].split("\t")
    if "lemmas" not in header:
        raise InputError(
            f"{path}: expected a header with the column lemmas (of {', '.join(_COLUMNS)}), parted by tabs, got "
            f"{'nothing' if header == [''] else header[:5]}; give such a table, or WordNet's folder dict."
        )
    for number, line in lines:
        cells = line.split("\t")
        row = dict(zip(header, cells, strict=False))
        if len(cells) != len(header) or not all(row["lemmas"].split("|")):
            raise _bad_line(path, number, line, f"{len(header)} cells parted by tabs, with lemmas")
        if not row.get("lexfile", "0").isdigit():
            raise _bad_line(path, number, line, "a number for lexfile")
        hypernyms = tuple(filter(None, row.get("hypernym", "").split("|")))
        lemmas = tuple(row["lemmas"].split("|"))
        yield Synset(row.get("offset", ""), int(row.get("lexfile", 0)), lemmas, hypernyms, row.get("gloss", ""))


def _bad_line(path: Path, number: int, line: str, expected: str) -> InputError:
    return InputError(f"{path}, line {number}: expected {expected}, got {line[:60]!r}; fetch the file again.")
