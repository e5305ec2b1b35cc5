"""Libraries kept aside are seen last, by those who ask for them alone."""

import sys

import pytest

from benchmarks import aside


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A library whose wheel also brings a package named `benchmarks`."""
    for package in ("shelved_library", "benchmarks"):
        (tmp_path / "shelf" / package).mkdir(parents=True)
        (tmp_path / "shelf" / package / "__init__.py").write_text("WHERE = 'aside'\n")
    monkeypatch.setattr(aside, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "shelf"
    sys.modules.pop("shelved_library", None)


def test_a_library_aside_is_found_and_shadows_nothing(shelf):
    assert aside.unavailable("shelf", "shelved_library") is None
    assert sys.path[-1] == str(shelf)
    assert sys.modules["shelved_library"].WHERE == "aside"
    assert not hasattr(sys.modules["benchmarks"], "WHERE")
    before = list(sys.path)
    assert aside.unavailable("shelf", "shelved_library") is None and sys.path == before


def test_what_is_not_there_is_said_with_the_command_that_brings_it(shelf):
    reason = aside.unavailable("torchrl", "a_module_nobody_has")
    assert "a_module_nobody_has cannot be imported" in reason
    assert reason.endswith("install it with: python -m benchmarks.aside torchrl")


def test_an_unknown_name_is_refused(capsys):
    assert aside.main(["nothing"]) == 2
    assert "unknown nothing; choose from opacus, backpack, cpprb, clustpy, torchrl" in capsys.readouterr().err
