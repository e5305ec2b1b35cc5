"""A file is the old one or the new one."""

import os
import stat

import pytest

from pyfast_mmcl.train.files import replace_file, replace_text


def test_text_replaces_text(tmp_path):
    path = tmp_path / "a.txt"
    replace_text(path, "one")
    replace_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(new):
        new.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        replace_file(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    replace_text(tmp_path / "made", "x")
    modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("plain", "made")}
    assert len(modes) == 1
