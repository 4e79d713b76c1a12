"""What Python code a callable depends on, found without importing any of it.

From the callable's module on, the import statements of every module of the project are followed
(also those inside of functions, under `TYPE_CHECKING`, and `import_module` with a literal name,
relative or not). A module of the project counts with its source, everything installed with the
version of its distribution, the standard library with the version of Python. What is imported under
a computed name can't be seen here: such files belong into `inputs`.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from snapfarm.golden.hashing import file_hash, shown

#: Our own packages, whose version is a part of every fingerprint.
_OURS = frozenset({"snapfarm", "snapfarm_worker"})

_INSTALLED = frozenset(
    Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
)


def source_parts(module: str, root: Path, search: Sequence[str]) -> Mapping[str, str]:
    """Return the parts of a fingerprint that `module` (dotted name) and its imports make up."""
    walk = _Walk(root, search)
    walk.follow(module)
    return walk.parts


def file_parts(paths: Iterable[Path], root: Path, search: Sequence[str]) -> Mapping[str, str]:
    """Return the same for source files that are run by their paths, as no module of a package."""
    return walk_parts((), paths, root, search)


def walk_parts(
    modules: Iterable[str], paths: Iterable[Path], root: Path, search: Sequence[str]
) -> dict[str, str]:
    """Return the parts of modules and of source files together, each looked at once."""
    walk = _Walk(root, search)
    for name in modules:
        walk.follow(name)
    for path in paths:
        walk.parts[f"module {shown(path, root)}"] = file_hash(path)
        for name in _imports(path, ""):
            walk.follow(name)
    return walk.parts


def project_search(root: Path) -> tuple[str, ...]:
    """Return where the builder of a configuration looks for modules: in the project first."""
    return (str(root), *(entry for entry in sys.path if entry not in ("", str(root))))


def spec_of(module: str, search: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    """Return what a fresh process with that search path would import as `module`."""
    return _Walk(Path(os.sep), search).find(module)


class _Walk:
    """The walk over the import graph of one module; `parts` fills up while it goes."""

    def __init__(self, root: Path, search: Sequence[str]) -> None:
        self.root = root
        self.search = search
        self.parts: dict[str, str] = {}
        self._seen: set[str] = set()
        self._finders: dict[str, importlib.machinery.FileFinder] = {}

    def follow(self, module: str) -> None:
        """Add `module`, the packages that it is in, and whatever they import."""
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name not in self._seen:
                self._seen.add(name)
                waiting += self._add(name)

    def _add(self, module: str) -> Iterator[str]:
        """Add the parts of one dotted name and yield the names to go on with."""
        package, _, _ = module.rpartition(".")
        if package:
            yield package
        top = module.partition(".")[0]
        if top in _OURS:
            return
        spec = self.find(module)
        if spec is None:
            # `from package import name` guesses that the name may be a module; only a top-level
            # name that nothing provides says something: its installation would change the result.
            if module == top and top not in sys.stdlib_module_names:
                self.parts[f"module {module}"] = "not found"
            return
        if spec.origin is None or spec.loader is None:
            return  # a namespace package: a folder without code of its own
        path = Path(spec.origin)
        if is_installed(path):
            if top not in sys.stdlib_module_names:
                self.parts[f"package {top}"] = _version(top)
            return
        self.parts[f"module {shown(path, self.root)}"] = file_hash(path)
        if path.suffix == ".py":
            is_package = spec.submodule_search_locations is not None
            yield from _imports(path, module if is_package else package)

    def find(self, module: str) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module, found without importing the packages that it is in."""
        locations: Sequence[str] = self.search
        spec: importlib.machinery.ModuleSpec | None = None
        name = ""
        for word in module.split("."):
            name = f"{name}.{word}" if name else word
            spec = self._find_in(name, locations)
            if spec is None and name == word and name not in sys.stdlib_module_names:
                spec = _hooked(name)
            if spec is None:
                return None
            locations = list(spec.submodule_search_locations or ())
        return spec

    def _find_in(
        self, name: str, locations: Sequence[str]
    ) -> importlib.machinery.ModuleSpec | None:
        # PathFinder would do the same, but asks sys.modules for the parents of namespace packages.
        portions: list[str] = []
        for location in locations:
            spec = self._finder(location).find_spec(name)
            if spec is not None and spec.loader is not None:
                return spec
            if spec is not None:
                portions += spec.submodule_search_locations or ()
        if not portions or name in sys.stdlib_module_names:
            return None
        namespace = importlib.machinery.ModuleSpec(name, None, is_package=True)
        namespace.submodule_search_locations = portions
        return namespace

    def _finder(self, location: str) -> importlib.machinery.FileFinder:
        if location not in self._finders:
            self._finders[location] = importlib.machinery.FileFinder(
                location,
                (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
                (importlib.machinery.SourceFileLoader, importlib.machinery.SOURCE_SUFFIXES),
            )
        return self._finders[location]


def _hooked(name: str) -> importlib.machinery.ModuleSpec | None:
    """Find a top-level name through import hooks, as editable installs use them."""
    # Not by importlib.util, which believes what is in sys.modules.
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, None)
        except Exception:  # code of whoever put the hook there
            continue
        if spec is not None:
            return spec
    return None


def is_installed(path: Path) -> bool:
    """Tell whether a module is the standard library's or an installed package's."""
    return (
        "site-packages" in path.parts
        or "dist-packages" in path.parts
        or any(path.is_relative_to(folder) for folder in _INSTALLED)
    )


def _imports(path: Path, package: str) -> Iterator[str]:
    """Yield the dotted names that a source file imports; `package` is what "." means in it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # the build will fail on it, with a better message than we had here
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = resolved("." * level + (module or ""), package)
                if base:
                    yield base
                    yield from (f"{base}.{alias.name}" for alias in names if alias.name != "*")
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module")
            ):
                yield from _called(node, package)


def _called(call: ast.Call, package: str) -> Iterator[str]:
    """Yield the name that a call imports, where it is literal.

    What it is relative to, unless literal too, is `__package__` in some spelling.
    """
    given = dict(zip(("name", "package"), call.args, strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg}
    literal = {
        key: value.value
        for key, value in given.items()
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }
    name = resolved(literal.get("name", ""), literal.get("package", package))
    if name:
        yield name


def resolved(name: str, package: str) -> str:
    """Return the absolute name of a module that `package` imports as `name`.

    Empty where a relative one leaves the top-level package.
    """
    relative = name.lstrip(".")
    level = len(name) - len(relative)
    if not level:
        return name
    parents = package.split(".") if package else []
    kept = parents[: max(0, len(parents) - (level - 1))]
    return ".".join([*kept, relative] if relative else kept) if kept else ""


@functools.cache
def _version(top: str) -> str:
    """Return the version of the distribution that provides a top-level name."""
    try:
        return importlib.metadata.version(top)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        pass
    # Names of package and distribution differ: ask all distributions, which takes a while.
    owners = sorted(set(_owners().get(top, ())))
    return ", ".join(f"{owner} {importlib.metadata.version(owner)}" for owner in owners) or "?"


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
