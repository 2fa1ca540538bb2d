"""Import a library without those of its dependencies that this process has no use for.

PySyft imports notebooks, plots, Docker, Kubernetes and two clouds, and Opacus imports scipy: much of their time and
memory, and code of others beside secrets. Here such a package is not imported: whatever is imported from it is a
stand-in, which imports the real thing once it is called, looked into, or asked about an object. So nothing behaves
otherwise; it only comes later, and not at all where nobody uses it.

Two things a stand-in cannot be: a class to extend (making an object of one that does is an ImportError), and an error
to catch (it matches none). Outside of the block an `import` is the real one.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)


class StandIn(type):
    """A class that stands for something of a package that is not imported."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return _real(cls)(*arguments, **named)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if _is_here(cls._module):
            return getattr(_real(cls), name)
        return _stand_in(cls._module, (*cls._path, name))

    def __instancecheck__(cls, value: Any) -> bool:
        real = _real(cls) if _is_here(cls._module) else None
        return isinstance(real, type) and isinstance(value, real)


def _stand_in(module: str, path: tuple[str, ...]) -> StandIn:
    is_error = path[-1].endswith(("Error", "Exception"))
    return StandIn(path[-1], (Exception,) if is_error else (), {"_module": module, "_path": path})


def _is_here(module: str) -> bool:
    return not isinstance(sys.modules.get(module), _Package | None)


def _real(cls: StandIn) -> Any:
    if "_path" not in vars(cls):
        where = f"{cls._module}.{'.'.join(cls._path)}"
        raise ImportError(f"{cls.__name__} extends {where}, which was not imported. Import {cls._module} first.")
    for finder in [finder for finder in sys.meta_path if isinstance(finder, _Finder)]:
        finder.let_in(cls._module)
    real: Any = importlib.import_module(cls._module)
    for name in cls._path:
        real = getattr(real, name)
    return real


class _Package(ModuleType):
    """A module of which everything is a stand-in."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _stand_in(self.__name__, (name,))
        setattr(self, name, made)
        return made


class _Finder(MetaPathFinder, Loader):
    """Finds the packages that are left out, and whatever is said to lie in them."""

    def __init__(self, packages: set[str], given: Mapping[str, Any], missing: set[str]) -> None:
        self.packages = packages
        self.given = given
        self.missing = missing

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname in self.missing:
            raise ModuleNotFoundError(f"{fullname} is left out of this import.", name=fullname)
        return ModuleSpec(fullname, self, is_package=True) if self._over(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for place, value in self.given.items():
            package, _, name = place.rpartition(".")
            if package == module.__name__:
                setattr(module, name, value)

    def let_in(self, module: str) -> None:
        """Have the package that a module lies in imported from now on."""
        for package in self._over(module):
            self.packages.discard(package)
            _forget(package)

    def _over(self, module: str) -> list[str]:
        return [package for package in self.packages if module == package or module.startswith(f"{package}.")]


def _forget(package: str) -> None:
    for name, module in list(sys.modules.items()):
        if isinstance(module, _Package) and (name == package or name.startswith(f"{package}.")):
            del sys.modules[name]


@contextmanager
def without(
    packages: Sequence[str], *, given: Mapping[str, Any] | None = None, missing: Sequence[str] = ()
) -> Iterator[None]:
    """Let imports in this block have stand-ins for packages that nobody has imported yet.

    Args:
      packages: dotted names; what lies in them is meant too.
      given: values of names that are called at import, as `{"IPython.get_ipython": lambda: None}`.
      missing: packages that are as if they were not installed, where a library gets by without.
    """
    absent = {name for name in packages if name not in sys.modules}
    finder = _Finder(set(absent), given or {}, set(missing))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for package in absent:
            _forget(package)


def import_without(
    library: str, packages: Sequence[str], *, given: Mapping[str, Any] | None = None, missing: Sequence[str] = ()
) -> None:
    """Import a library without these packages; as it is where it does not get by with stand-ins."""
    if library in sys.modules:
        return
    before = set(sys.modules)
    try:
        with without(packages, given=given, missing=missing):
            importlib.import_module(library)
    except Exception:
        logger.warning("%s needs what was left out of its import; it is imported whole.", library, exc_info=True)
        for name in set(sys.modules) - before:
            if name == library or name.startswith(f"{library}."):
                del sys.modules[name]
        importlib.import_module(library)
