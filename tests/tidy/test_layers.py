"""Who may import whom: strictly downward, and nothing but data in the pure core.

Read from the source, so that an import inside a function counts like any other.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

ROOT = Path(__file__).parents[2]
PACKAGES = ("events", "projections", "service")

PURE_PROJECTIONS = (
    "projections.debug_copy",
    "projections.gpu_unit",
    "projections.lineage",
    "projections.node",
    "projections.price_book",
    "projections.schema",
    "projections.state",
    "projections.tables",
    "projections.usage",
    "projections.usage_folds",
    "projections.webhook_book",
)
"""With `projections.evolve*`, the modules of that package that no I/O reaches."""

SERVICE_LAYERS: tuple[tuple[str, ...], ...] = (
    ("service.domain",),
    (
        "service.ports",
        "service.access_ports",
        "service.audit_ports",
        "service.disk_ports",
        "service.errors",
        "service.webhook_ports",
        "service.settings",
        "service.settings_table",
        "service.settings_text",
    ),
    ("service.telemetry",),
    ("service.adapters", "service.application"),
    ("service.web",),
    ("service.bootstrap",),
    ("service.cli",),
    ("service.__main__",),
)
"""Lowest first. A module imports from its own group and from lower ones."""

PURE_IMPORTS = {
    "ast",
    "collections",
    "collections.abc",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "msgspec",
    "msgspec.structs",
    "operator",
    "re",
    "typing",
}
"""All that the pure core needs of the world outside. It is short: think twice before adding."""

CLOCK_READINGS = {"now", "utcnow", "today", "fromtimestamp"}
"""What a pure module may not ask of `datetime`; from an instant it is given it may make one."""


class Import(Struct, frozen=True):
    """That a module imports another, and where."""

    module: str
    imported: str
    line: int
    lazy: bool
    """Inside a function, so only when that is called."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.imported}"


def source_files() -> dict[str, Path]:
    """Every module of ours by its dotted name; a package by its own."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[dotted.removesuffix(".__init__")] = path
    return found


MODULES = source_files()
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}


def imports_of(module: str) -> Iterator[Import]:
    """What a module imports; `from package import module` counts as importing that module."""
    lazy = {
        id(node)
        for function in ast.walk(TREES[module])
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            source = node.module or ""
            inside = [f"{source}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else source for name in inside]
        else:
            continue
        for name in sorted(set(names)):
            yield Import(module, name, node.lineno, id(node) in lazy)


IMPORTS = [one for module in MODULES for one in imports_of(module)]


def within(module: str, *packages: str) -> bool:
    """Is the module one of these, or inside one of these?"""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_pure(module: str) -> bool:
    """Does the module belong to the pure core?"""
    evolves = module.startswith("projections.evolve")
    return within(module, "events", "service.domain", *PURE_PROJECTIONS) or evolves


def layer_of(module: str) -> int:
    """The place of a module of `service` among its layers."""
    for place, packages in enumerate(SERVICE_LAYERS):
        if within(module, *packages):
            return place
    raise AssertionError(f"{module} is in no layer: give it a place in SERVICE_LAYERS")


def test_the_source_was_found() -> None:
    assert {"events.record", "projections.state", "service.domain.decide"} <= set(MODULES)
    assert len(IMPORTS) > 300


def test_events_import_nothing_of_ours_but_events() -> None:
    wrong = [
        str(one)
        for one in IMPORTS
        if within(one.module, "events") and within(one.imported, "projections", "service")
    ]
    assert wrong == []


def test_projections_import_events_and_never_the_service() -> None:
    wrong = [
        str(one)
        for one in IMPORTS
        if within(one.module, "projections") and within(one.imported, "service")
    ]
    assert wrong == []


def test_the_pure_core_imports_only_itself() -> None:
    wrong = [
        str(one)
        for one in IMPORTS
        if is_pure(one.module)
        and within(one.imported, *PACKAGES)
        and one.imported not in PACKAGES
        and not is_pure(one.imported)
    ]
    assert wrong == []


def test_the_pure_core_needs_nothing_of_the_world_outside() -> None:
    wrong = [
        str(one)
        for one in IMPORTS
        if is_pure(one.module)
        and not within(one.imported, *PACKAGES)
        and one.imported not in PURE_IMPORTS
    ]
    assert wrong == []


def test_the_pure_core_reads_no_clock() -> None:
    readings = [
        f"{module}:{node.lineno}: .{node.attr}"
        for module in MODULES
        if is_pure(module)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute) and node.attr in CLOCK_READINGS
    ]
    assert readings == []


def test_the_service_imports_downward() -> None:
    wrong = [
        str(one)
        for one in IMPORTS
        if within(one.module, "service")
        and one.module != "service"
        and within(one.imported, "service")
        and one.imported != "service"
        and layer_of(one.imported) > layer_of(one.module)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "never"),
    [
        ("service.application", "service.adapters"),
        ("service.application", "service.web"),
        ("service.adapters", "service.application"),
        ("service.web", "service.adapters"),
        ("service.cli", "service.adapters"),
        ("service.cli", "service.application"),
        ("service.cli", "service.web"),
    ],
)
def test_these_do_not_know_each_other(package: str, never: str) -> None:
    wrong = [
        str(one) for one in IMPORTS if within(one.module, package) and within(one.imported, never)
    ]
    assert wrong == []


def test_only_bootstrap_names_adapters() -> None:
    users = {
        one.module
        for one in IMPORTS
        if within(one.imported, "service.adapters") and not within(one.module, "service.adapters")
    }
    assert all(within(user, "service.bootstrap") for user in users), users


def test_the_command_line_loads_the_service_only_when_it_serves() -> None:
    """A `gpuledger ps` must not wait for NATS, Docker and NVML to be imported."""
    eager = [
        str(one)
        for one in IMPORTS
        if within(one.module, "service.cli", "service.__main__")
        and within(one.imported, "service.bootstrap")
        and not one.lazy
    ]
    assert eager == []


def test_no_module_imports_its_own_package_root() -> None:
    """The root would be half loaded; `from package import module` is another matter."""
    wrong = []
    for one in IMPORTS:
        package = one.module if MODULES[one.module].stem == "__init__" else None
        root = one.module.rpartition(".")[0]
        if package is None and root and one.imported == root:
            wrong.append(str(one))
    assert wrong == []


def test_imports_make_no_circle() -> None:
    """Then every module can be loaded first, and understood without those above it."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for one in IMPORTS:
        if one.imported in MODULES and not one.lazy and one.imported != one.module:
            graph[one.module].add(one.imported)
    while leaves := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert graph == {}
