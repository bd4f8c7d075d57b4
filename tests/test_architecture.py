"""The house: which room may import which, which library lives where, and what the wheel holds."""

import ast
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gtmar"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: From the ground up: a room imports from itself and from those before it.
ROOMS = (
    "safe_text",
    "errors",
    "memory",
    "linear_algebra",
    "arguments",
    "documents",
    "plain_data",
    "sql_sandbox",
    "outputs",
    "earning",
    "stats",
    "spec",
    "data",
    "snapshots",
    "autospec",
    "engine",
    "metrics",
    "objective",
    "optimize",
    "journal",
    "validation",
    "integrations",
    "runs",
    "report",
    "api",
    "desk",
    "cli",
)
#: Where a library is at home: modules, or rooms that end in a slash.
HOMES = {
    "duckdb": (
        "sql_sandbox.py",
        "journal/catalog.py",
        "journal/tables.py",
        "data/scan.py",
        "snapshots/",
        "integrations/",
    ),
    "deltalake": ("data/scan.py", "integrations/"),
    "pyiceberg": ("data/scan.py",),
    "adbc_driver_manager": ("data/databases.py",),
    "adbc_driver_postgresql": ("data/databases.py",),
    "pyarrow": (
        "journal/",
        "integrations/jsonl_",
        "data/databases.py",
    ),
    "pydantic": ("spec/", "snapshots/recipe.py"),
    "pydantic_core": ("spec/",),
    "yaml": ("spec/",),
    "sqlglot": ("integrations/", "spec/rule.py"),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "ray": ("engine/ray_cluster.py",),
    "numba": ("engine/numba_", "optimize/surrogate.py"),
    "mlflow": ("integrations/mlflow_tracking.py",),
    "sqlalchemy": ("integrations/mlflow_tracking.py",),
    "altair": ("report/",),
    "vl_convert": ("report/",),
    "jinja2": ("report/", "desk/"),
    "markupsafe": ("report/", "desk/"),
    "starlette": ("desk/",),
    "uvicorn": ("desk/",),
}
#: Libraries of an extra, by its name; nothing but their home needs them.
EXTRAS = {
    "database": {"adbc_driver_manager", "adbc_driver_postgresql"},
    "delta": {"deltalake"},
    "desk": {"starlette", "uvicorn", "jinja2"},
    "fast": {"numba"},
    "iceberg": {"pyiceberg"},
    "mlflow": {"mlflow", "sqlalchemy"},
    "ray": {"ray"},
    "report": {"altair", "vl_convert", "jinja2", "markupsafe"},
}
#: Where a library must not be.
BANS = {
    "polars": (
        "engine/numpy_kernel.py",
        "engine/numba_",
        "engine/threads.py",
        "optimize/",
    )
}
#: Above this a file probably holds two ideas; a look is worth it, but only a reader can tell.
MANY_LINES = 700


@dataclass(frozen=True)
class Import:
    """An import statement of a module: of what, which names, and where."""

    target: str
    names: tuple[str, ...]
    line: int


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Find all imports, those within functions and under TYPE_CHECKING included."""
    return tuple(_imports_of(path))


def _imports_of(path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}:{node.lineno}: a relative import"
            names = tuple(alias.name for alias in node.names)
            yield Import(str(node.module), names, node.lineno)


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return place(path).split("/")[0].removesuffix(".py")


def rooms_meant(found: Import) -> set[str]:
    """Name the rooms of gtmar that an import is of."""
    parts = found.target.split(".")
    if parts[0] != "gtmar":
        return set()
    if len(parts) > 1:
        return {parts[1]}
    return {name for name in found.names if (PACKAGE / name).is_dir() or is_module(name)}


def dotted(path: Path) -> str:
    """Return a module's name as an import has it; a package's is its folder's."""
    return "gtmar." + place(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def given_on(package: Path) -> dict[str, str]:
    """Return which module each name comes from that a package's `__init__` gives on."""
    return {name: found.target for found in imports_of(package) for name in found.names}


def modules_imported(path: Path) -> set[str]:
    """Return the modules of gtmar that a module imports; of a name given on, where it is made."""
    modules = set()
    for found in imports_of(path):
        for name in found.names or ("",):
            module = found.target
            if f"{module}.{name}" in FILES:
                module = f"{module}.{name}"
            elif module in FILES and FILES[module].name == "__init__.py":
                module = given_on(FILES[module]).get(name, "")
            modules |= {module} & FILES.keys()
    return modules - {dotted(path)}


FILES = {dotted(path): path for path in MODULES if path != PACKAGE / "__init__.py"}


def is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").is_file()


def within(path: Path, places: tuple[str, ...]) -> bool:
    return any(place(path).startswith(p) if p[-1] in "/_" else place(path) == p for p in places)


# ---- who imports whom -----------------------------------------------------------------------


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.slow
def test_no_import_runs_upward() -> None:
    upward = []
    for path in MODULES:
        room = room_of(path)
        if room in ("__main__", "__init__"):
            continue
        above = set(ROOMS[ROOMS.index(room) + 1 :])
        upward += [
            f"{place(path)}:{found.line}: {target}"
            for found in imports_of(path)
            for target in rooms_meant(found) & above
        ]
    assert upward == []


@pytest.mark.slow
def test_no_imports_run_in_a_circle() -> None:
    """Imports within functions and under TYPE_CHECKING count."""
    imports = {
        name: modules_imported(path)
        for name, path in FILES.items()
        if path.name not in ("__init__.py", "__main__.py")
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as err:
        pytest.fail(f"a circle: {' -> '.join(reversed(err.args[1]))}")


@pytest.mark.slow
def test_libraries_stay_at_home() -> None:
    strays = []
    for path in MODULES:
        for found in imports_of(path):
            library = found.target.split(".")[0]
            if library in HOMES and not within(path, HOMES[library]):
                strays.append(f"{place(path)}:{found.line}: {library} lives in {HOMES[library]}")
            if library in BANS and within(path, BANS[library]):
                strays.append(f"{place(path)}:{found.line}: {library} is not let in")
    assert strays == []


@pytest.mark.slow
def test_the_core_needs_no_more_than_it_says() -> None:
    own = {"gtmar", *sys.stdlib_module_names}
    found = {i.target.split(".")[0] for path in MODULES for i in imports_of(path)} - own
    assert found <= {*HOMES, *BANS, "numpy"}
    declared = re.search(r"^dependencies = \[(.*?)\]", pyproject(), re.S | re.M)
    assert declared is not None
    for library in found - {"yaml", "pydantic_core"}.union(*EXTRAS.values()):
        assert f'"{library}>=' in declared[1]


def test_an_extra_names_its_libraries_and_the_tests_have_them() -> None:
    # vl_convert's package has another name; jinja2 brings markupsafe.
    packages = {
        "adbc_driver_manager": "adbc-driver-manager",
        "adbc_driver_postgresql": "adbc-driver-postgresql",
        "vl_convert": "vl-convert-python",
        "markupsafe": "jinja2",
        "mlflow": "mlflow-skinny",
    }
    wanted = re.search(r'"gtmar\[(.*?)\]"', pyproject())
    assert wanted is not None
    for extra, libraries in EXTRAS.items():
        declared = re.search(rf"^{extra} = \[(.*?)\]", pyproject(), re.S | re.M)
        assert declared is not None, extra
        undeclared = [
            library
            for library in libraries
            if f'"{packages.get(library, library)}>=' not in declared[1]
        ]
        assert undeclared == [], extra
        assert extra in wanted[1].split(",")


def test_the_commands_start_without_any_extra() -> None:
    """Every command's help, in a process where the libraries of the extras can't be imported."""
    hidden = sorted(set().union(*EXTRAS.values()))
    code = (
        f"import sys\nfor name in {hidden}: sys.modules[name] = None\n"
        "import gtmar.report, gtmar.desk\nfrom gtmar.cli import main\n"
        "sys.argv = ['gtmar', '--help']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report" in done.stdout


def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("from gtmar.spec.model import Tier", {"spec"}),
        ("import gtmar.runs.journaled_search", {"runs"}),
        ("from gtmar import spec as specs", {"spec"}),
        ("from gtmar import __version__, cli", {"cli"}),
        ("from gtmar import errors, engine", {"errors", "engine"}),
        ("def late():\n    from gtmar.cli import app", {"cli"}),
        ("if TYPE_CHECKING:\n    from gtmar.runs import run", {"runs"}),
        ("import polars", set()),
    ],
)
def test_this_test_sees_every_form_of_import(tmp_path: Path, source: str, rooms: set[str]) -> None:
    path = tmp_path / "module.py"
    path.write_text(source, encoding="utf-8")
    assert set().union(*(rooms_meant(found) for found in imports_of(path))) == rooms


# ---- modules --------------------------------------------------------------------------------


def test_no_module_is_empty_and_long_ones_are_named() -> None:
    lines = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not [name for name, count in lines.items() if count == 0]
    long = {name: count for name, count in lines.items() if count > MANY_LINES}
    if long:
        print(f"over {MANY_LINES} lines, perhaps two ideas in one file: {long}")


def declared(path: Path) -> list[str] | None:
    """Return a module's `__all__`; None without one."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(path: Path) -> set[str]:
    """Return the names that a module makes at its top: functions, classes, values, imports.

    What the package's own `__init__` imports for type checkers alone counts: it gives it on late.
    """
    names: set[str] = set()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if path == PACKAGE / "__init__.py":
        body += [n for node in body if isinstance(node, ast.If) for n in node.body]
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {
                n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)
            }
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff's RUF022 has it."""
    bare = name.lstrip("_")
    return (0 if bare.isupper() else 1 if bare[0].isupper() else 2, name)


PUBLIC = [path for path in MODULES if path.name != "__main__.py"]


@pytest.mark.slow
def test_all_is_there_sorted_and_true() -> None:
    faults: list[str] = []
    for path in PUBLIC:
        names = declared(path)
        if names is None:
            if path.parent == PACKAGE:
                continue  # gives on what `gtmar.api.__all__` lists
            gives = defined(path) - {"__version__", "annotations"}
            if path.name != "__init__.py" or gives:
                faults.append(f"{place(path)}: no __all__, and it gives on {sorted(gives)}")
            continue
        if len(set(names)) != len(names) or names != sorted(names, key=as_ruff_sorts):
            faults.append(f"{place(path)}: a name twice, or not in order")
        absent = sorted(set(names) - defined(path))
        private = [name for name in names if name.startswith("_") and not name.startswith("__")]
        faults += [f"{place(path)}: {name} is absent or private" for name in [*absent, *private]]
    assert faults == []


@cache
def asked_for() -> dict[str, set[str]]:
    """Return by module the names that other modules of gtmar import from it."""
    asked: dict[str, set[str]] = {}
    for path in MODULES:
        for found in imports_of(path):
            if found.target.startswith("gtmar."):
                asked.setdefault(found.target, set()).update(found.names)
    return asked


def test_import_gtmar_brings_nothing_heavy_with_it() -> None:
    code = "import sys, gtmar; gtmar.__version__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"polars", "duckdb", "pydantic", "pyarrow", "numpy"} & set(done.stdout.split())


def test_all_has_whatever_another_module_imports() -> None:
    unlisted = {}
    for path in PUBLIC:
        wanted = {
            name
            for name in asked_for().get(dotted(path), set())
            if not (path.parent / f"{name}.py").is_file()
        }
        if missing := wanted - {"*", *(declared(path) or ())}:
            unlisted[place(path)] = sorted(missing)
    assert unlisted == {}


def test_no_file_or_class_has_its_name_twice() -> None:
    files = Counter(path.name for path in MODULES if path.name != "__init__.py")
    classes = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in (files + classes).items() if count > 1] == []


# ---- the wheel ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel and list what is in it."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed, so no wheel can be built")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_the_wheel_holds_every_module(wheel: list[str]) -> None:
    assert {f"gtmar/{place(path)}" for path in MODULES} <= set(wheel)
    assert "gtmar/py.typed" in wheel


def test_the_wheel_holds_the_templates_of_pages(wheel: list[str]) -> None:
    templates = [path.name for path in (PACKAGE / "report" / "templates").iterdir()]
    assert {"base.html", "style.css", "history.js"} <= set(templates)
    assert {f"gtmar/report/templates/{name}" for name in templates} <= set(wheel)


@pytest.mark.parametrize(("folder", "inside"), [("sql", "_sql"), ("examples", "_examples")])
def test_the_wheel_holds_what_lies_beside_the_package(
    wheel: list[str], folder: str, inside: str
) -> None:
    beside = [
        path.relative_to(ROOT / folder).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".sql", ".yaml", ".md"}
    ]
    assert len(beside) >= 3
    assert {f"gtmar/{inside}/{name}" for name in beside} <= set(wheel)


def test_the_wheel_holds_nothing_else(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {"gtmar", next(top for top in tops if top.endswith(".dist-info"))}
    strays = [
        name
        for name in wheel
        if re.search(r"(^|/)(tests?|docs|__pycache__|journal/runs)/|test_|\.pyc$", name)
    ]
    assert not strays
