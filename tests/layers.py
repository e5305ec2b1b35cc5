"""What a source file imports and calls, read from its syntax tree; test_layers.py holds the laws."""

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pyfast_mmcl"


class Use(NamedTuple):
    """One import or call: the dotted name and where it stands."""

    name: str
    line: int


def sources(folder: str = PACKAGE) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path, root: Path = ROOT) -> str:
    """`pyfast_mmcl/ops/knn/__init__.py` → `pyfast_mmcl.ops.knn.__init__`: relative imports count from here."""
    return ".".join(path.relative_to(root).with_suffix("").parts)


def room(module: str) -> str:
    """The room of a dotted name: its first part below the package; cli_x.py belongs to the room cli."""
    parts = module.split(".")
    if len(parts) < 2 or parts[0] != PACKAGE:
        return ""
    return "cli" if parts[1].startswith("cli") else parts[1]


def imports(tree: ast.AST, module: str) -> list[Use]:
    """Every imported name in full: relative imports resolved, `from a import b` as `a.b`, import_module("a") as `a`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Use(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found += [Use(f"{stem}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            texts = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            found += [Use(text, node.lineno) for text in texts]
    return found


def calls(tree: ast.AST) -> list[tuple[Use, ast.Call]]:
    """Every call with the dotted text of what is called."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(Use(ast.unparse(node.func), node.lineno), node) for node in found]


def method_files(root: Path = ROOT / PACKAGE) -> list[Path]:
    """One file per published method: all files of the family folders, and the k-means baselines."""
    families = [folder for kind in ("continual", "clustering") for folder in (root / kind).iterdir() if folder.is_dir()]
    files = [path for family in families for path in family.glob("*.py") if path.stem != "__init__"]
    return sorted(files + list((root / "clustering").glob("*kmeans.py")))
