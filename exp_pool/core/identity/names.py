"""Qualified names: under which name calls are stored, whether a name leads to its object, whose code it is.

``__main__`` is the name of every script and notebook, and one pool serves a whole project.

A script is its file's path below the project's root, so that it is the same one wherever it is started from, as a file,
by ``python -m``, in a debugger or by a runner, and in the processes that `multiprocessing` starts. Where no root lies
above it, it is the whole path. A notebook is its path where the kernel knows that (VS Code, and Jupyter's servers, tell
it); other kernels, ``python -c`` and standard input have no name: there the digest of the source keeps two functions
apart. Imported, a file is its module, whatever it is called when it is run.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from exp_pool.errors import InvalidInputError
from exp_pool.runtime.files import root_above

_MAIN = ("__main__", "__mp_main__")  # the second is what multiprocessing calls it in the processes that it starts
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# Where packages are installed; and this package, which may be installed from a folder.
LIBRARIES = (*_INSTALLED, f"{Path(str(sys.modules['exp_pool'].__file__)).parent}{os.sep}")
HEAP_TYPE = 1 << 9  # of type.__flags__: made at run time, by a class statement or otherwise
# Modules by the name that they had when the first keys were made: stored rows are found by it.
_KEYED_AS = {
    "exp_pool.core.experience": "exp_pool.experience",
    "exp_pool.core.results": "exp_pool.experience",
    "exp_pool.core.identity.argument_source": "exp_pool.closures",
}


def function_name(function: Callable[..., Any] | str) -> str:
    """The name under which a function's calls are stored: ``module.qualname``, or what a decorator was told.

    Raises:
        InvalidInputError: the name is empty, or the value is neither a name nor a function.
    """
    if isinstance(function, str):
        if not function.strip():
            raise InvalidInputError("a function name must not be empty; give the function itself or its stored name")
        return function
    while isinstance(function, functools.partial):
        function = function.func
    stored = getattr(function, "__exp_function__", None)
    if isinstance(stored, str):
        return stored
    if not callable(function):
        raise InvalidInputError(f"expected a function or its name, got {function!r}")
    return qualified_name(function if hasattr(function, "__qualname__") else type(function))


def qualified_name(obj: Any) -> str:
    """``module.qualname`` of a function or class; in a script its path stands for the module, ``path:qualname``."""
    if is_of_script(obj):
        return f"{script_of(obj)}:{obj.__qualname__}"
    module = getattr(obj, "__module__", None)
    if module is None:  # of a method written in C
        owner = getattr(obj, "__objclass__", None) or getattr(obj, "__self__", None)
        module = getattr(owner, "__module__", None)
    return f"{_KEYED_AS.get(str(module), module)}.{obj.__qualname__}"


def is_known_by_name(obj: type | types.FunctionType) -> bool:
    """Whether its qualified name leads to this very object."""
    if isinstance(obj, type) and not obj.__flags__ & HEAP_TYPE:  # there is one of it, even if its name is elsewhere
        return True
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):  # "<locals>" and "<lambda>" lead nowhere
        found = getattr(found, name, None)
    return found is obj


def in_library(file: object) -> bool:
    """Whether a module's file is one of Python's, or of what is installed; what has none counts as such."""
    return not isinstance(file, str) or file.startswith(LIBRARIES)


def is_of_library(cls: type) -> bool:
    """Whether a class comes from an installed package, or from Python itself: its name says what it is."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return cls.__module__ != "__main__" and in_library(file)


# ── Scripts and notebooks ─────────────────────────────────────────────────────────────────────────────────────────────


def is_of_script(obj: Any) -> bool:
    """Whether a function or class was defined in ``__main__``."""
    return getattr(obj, "__module__", None) in _MAIN


def script_of(obj: Any) -> str:
    """The path of the script or notebook in which a function or class was defined; ``__main__`` where there is none."""
    for namespace in _namespaces(obj):
        file = namespace.get("__file__")
        if isinstance(file, str) and not file.startswith("<"):  # "<stdin>"
            return _installed(file) or _path(_absolute(file))
        notebook = namespace.get("__vsc_ipynb_file__") or namespace.get("__session__")
        if isinstance(notebook, str) and Path(notebook).suffix:
            return _path(_notebook(notebook))
    return "__main__"


def _unwrapped(function: Any) -> Any:
    try:
        return inspect.unwrap(function)
    except ValueError:  # wrappers that go in a circle
        return function


def _namespaces(obj: Any) -> Iterator[Mapping[str, Any]]:
    """The globals of the function, or of a method of the class; last those of what was started.

    A debugger runs a script in globals of its own, and a wrapper made by `functools.wraps` has those of its own module.
    """
    members = [getattr(m, "__func__", m) for m in vars(obj).values()] if isinstance(obj, type) else [obj]
    for member in members:
        function = member if isinstance(obj, type) else _unwrapped(member)
        if isinstance(function, types.FunctionType) and function.__globals__.get("__name__") in _MAIN:
            yield function.__globals__
            return
    for name in _MAIN:
        if name in sys.modules:
            yield vars(sys.modules[name])
            return


def _installed(file: str) -> str | None:
    """``python -m`` of an installed package: its module, for its path says where it is installed."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None or spec.origin != file or not file.startswith(_INSTALLED):
        return None
    return str(spec.name)


@functools.lru_cache(maxsize=256)
def _path(file: str) -> str:
    root = root_above(Path(file).parent)
    frozen = getattr(sys, "_MEIPASS", None)  # where a program made into one file unpacks itself, each time elsewhere
    if root is None and frozen is not None:
        root = Path(frozen)
    path = Path(file)
    return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()


def _notebook(said: str) -> str:
    """Where a notebook lies. Jupyter's servers tell its path from their own folder; a kernel runs in the notebook's."""
    path = Path(said.removeprefix("RTC:"))  # of those who edit together
    beside = Path(path.name)
    return _absolute(str(beside if not path.is_absolute() and beside.exists() else path))


def _absolute(file: str) -> str:
    try:
        # Links are not followed: what leads to the newest release is the name that lasts.
        return os.path.abspath(file)  # noqa: PTH100
    except OSError:  # the working directory is gone
        return file
