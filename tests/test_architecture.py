"""The rules that decide where everything goes, and the sizes that keep it readable."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LIBRARY = sorted((REPOSITORY / "structgen").rglob("*.py"))
WORKFLOWS = sorted((REPOSITORY / "workflows").rglob("*.py"))
SOURCES = LIBRARY + WORKFLOWS
GPU_ONLY = [REPOSITORY / "structgen" / "nn" / "kernels.py"]  # imports Triton, which torch's builds for GPUs bring along
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
NETWORKS = ("structgen.alphafold3", "structgen.alphafold2", "structgen.alphafold1", "structgen.equivariant", "structgen.vision")
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "v2"}

LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def name_of(path: Path) -> str:
    """structgen/features/job.py -> structgen.features.job"""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module and `module.name` that a file imports when it runs, wherever in it; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = {id(node) for block in ast.walk(tree) for part in _for_type_checkers(block) for node in ast.walk(part)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, path)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def _for_type_checkers(node: ast.AST) -> list[ast.stmt]:
    return node.body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") else []


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return str(node.module)
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def offences(files: list[Path], forbidden: tuple[str, ...]) -> list[str]:
    return sorted({f"{path.name}: {module}" for path in files for module in imports(path) for bad in forbidden if within(module, bad)})


def files_of(package: str) -> list[Path]:
    return [path for path in LIBRARY if within(name_of(path), package)]


def test_the_reader_of_imports_finds_all_forms(tmp_path: Path):
    """Plain, renamed, from, inner and type-checking imports are told apart: the rules below rest on it."""
    text = (
        "import ray.data as x\nfrom a import b\ndef f():\n    import c.d\n"
        "if TYPE_CHECKING:\n    import hidden\nelse:\n    import seen\nif typing.TYPE_CHECKING:\n    from hidden import too\n"
    )
    path = REPOSITORY / "structgen" / "absent.py"
    (tmp_path / "absent.py").write_text(text)
    assert imports(tmp_path / "absent.py") == {"ray.data", "a", "a.b", "c.d", "seen"}
    assert _absolute(ast.parse("from . import y").body[0], path) == "structgen"  # type: ignore[arg-type]
    assert _absolute(ast.parse("from ..z import y").body[0], REPOSITORY / "structgen" / "io" / "x.py") == "structgen.z"  # type: ignore[arg-type]


def test_ray_is_imported_by_workflows_alone():
    """The library knows no cluster, and never the workflows that drive it."""
    assert offences(LIBRARY, ("ray", "workflows")) == []
    assert any(within(module, "ray") for path in WORKFLOWS for module in imports(path))


def test_generative_core_imports_only_torch():
    """Beside the standard library and itself: torch, and the project's errors, which import nothing."""
    assert all(module.split(".")[0] in sys.stdlib_module_names for module in imports(REPOSITORY / "structgen" / "errors.py"))
    allowed = sys.stdlib_module_names | {"torch"}
    others = [
        f"{path.name}: {module}"
        for path in files_of("structgen.generative")
        for module in imports(path)
        if not within(module, "structgen.generative") and not within(module, "structgen.errors") and module.split(".")[0] not in allowed
    ]
    assert others == []


@pytest.mark.parametrize("package", NETWORKS)
def test_network_families_do_not_know_each_other(package: str):
    """A network imports the core, shared layers and the batch type, never another family, a file format or a stage."""
    outside = tuple(other for other in NETWORKS if other != package)
    assert offences(files_of(package), outside) == []


@pytest.mark.parametrize("package", ["structgen.features", "structgen.io", "structgen.search", "structgen.metrics", "structgen.data"])
def test_features_files_and_searches_import_no_network(package: str):
    """Sequences, files and measures need no weights."""
    assert offences(files_of(package), (*NETWORKS, "structgen.generative", "structgen.nn", "structgen.predict", "structgen.train")) == []


def test_library_imports_without_ray():
    """Everything of structgen can be imported where Ray is not there at all."""
    code = "import sys; sys.modules['ray'] = None\n" + "".join(f"import {name_of(path)}\n" for path in LIBRARY if path not in GPU_ONLY)
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_no_module_has_a_name_that_says_nothing():
    """A module is named after its one idea."""
    assert [str(path) for path in SOURCES + TESTS if path.stem in VAGUE or path.parent.name in VAGUE] == []


def test_no_file_is_too_long():
    """At most 400 lines, tests too."""
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES + TESTS}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines, decorators not among them, of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(REPOSITORY)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_too_long():
    """At most 60 lines, and the median at most 12."""
    lengths = dict(pair for path in SOURCES for pair in functions(path))
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
    assert sorted(lengths.values())[len(lengths) // 2] <= 12
