"""Names come from file stems, look-ups walk the folders, errors name files and near names."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.train import registry


@pytest.fixture
def scratch(monkeypatch):
    """An empty registry that does not walk the package."""
    monkeypatch.setattr(registry, "_found", {"recipe": {}, "estimator": {}})
    monkeypatch.setattr(registry, "_walked", {"recipe", "estimator"})


def load(path: Path, body: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("from pyfast_mmcl.train.registry import estimator, recipe\n" + body)
    spec = importlib.util.spec_from_file_location(f"scratch_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RECIPE = """
@recipe(family="replay", paper="A paper", trains_on="{on}")
def anything(capacity=7, *, weight=0.5):
    '''One line.

    More lines.
    '''
    return [capacity, weight]
"""


def test_entry_carries_stem_defaults_summary_and_path(scratch, tmp_path):
    load(tmp_path / "my_method.py", RECIPE.format(on="seen"))
    entry = registry.get_recipe("my_method")
    assert (entry.name, entry.family, entry.paper, entry.summary) == ("my_method", "replay", "A paper", "One line.")
    assert entry.defaults == {"capacity": 7, "weight": 0.5}
    assert entry.path == str(tmp_path / "my_method.py") and entry.trains_on == "seen"
    assert entry.build(weight=2) == [7, 2]


def test_estimator_class_is_registered_apart_from_recipes(scratch, tmp_path):
    body = "@estimator(family='baseline', paper='P')\nclass Thing:\n    def __init__(self, k=3): self.k = k\n"
    load(tmp_path / "thing.py", body)
    assert registry.get_estimator("thing").defaults == {"k": 3}
    assert registry.recipes() == {}


def test_equal_stems_raise_and_name_both_files(scratch, tmp_path):
    load(tmp_path / "a" / "same.py", RECIPE.format(on="current"))
    with pytest.raises(InputError) as error:
        load(tmp_path / "b" / "same.py", RECIPE.format(on="current"))
    assert str(tmp_path / "a" / "same.py") in str(error.value) and str(tmp_path / "b" / "same.py") in str(error.value)


def test_loading_the_same_file_again_is_allowed_but_two_recipes_in_it_are_not(scratch, tmp_path):
    load(tmp_path / "again.py", RECIPE.format(on="current"))
    load(tmp_path / "again.py", RECIPE.format(on="current"))
    with pytest.raises(InputError, match="its own file"):
        load(tmp_path / "again.py", RECIPE.format(on="current").replace("anything", "other"))


def test_unknown_names_list_the_nearest(scratch, tmp_path):
    load(tmp_path / "online_ewc.py", RECIPE.format(on="current"))
    with pytest.raises(UnknownNameError, match="online_ewc"):
        registry.get_recipe("onlin_ewc")
    with pytest.raises(UnknownNameError, match="capacity"):
        registry.get_recipe("online_ewc").build(capcity=3)
    with pytest.raises(UnknownNameError, match="seen"):
        registry.recipe(family="replay", paper="", trains_on="sen")


@pytest.mark.parametrize("kind", ["recipe", "estimator"])
def test_every_module_in_a_family_folder_is_found_on_disk(kind):
    modules = registry.method_modules(kind)
    assert len(modules) == len(set(modules))
    assert all(importlib.util.find_spec(module) for module in modules)


def test_folder_without_init_is_still_walked(tmp_path, monkeypatch):
    package = tmp_path / "roomy"
    load(package / "family" / "deep.py", RECIPE.format(on="current").replace("anything", "deep"))
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry._ROOMS, "recipe", "roomy")
    assert registry.method_modules("recipe") == ["roomy.family.deep"]


def test_shipped_names_are_file_stems():
    for entries in (registry.recipes(), registry.estimators()):
        for name, entry in entries.items():
            assert name == Path(entry.path).stem and entry.summary and entry.paper and entry.family


def test_importing_the_package_imports_no_method():
    code = "import sys, pyfast_mmcl, pyfast_mmcl.train.registry as r\n"
    code += "assert not [m for kind in ('recipe', 'estimator') for m in r.method_modules(kind) if m in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_method_typed_in_a_session_is_called_by_its_own_name(scratch):
    body = "from pyfast_mmcl.train.registry import recipe\n" + RECIPE.format(on="current")
    names = {"__name__": "typed"}
    exec(compile(body, "<typed>", "exec"), names)
    exec(compile(body.replace("anything", "another"), "<typed>", "exec"), names)
    assert set(registry.recipes()) == {"anything", "another"}
