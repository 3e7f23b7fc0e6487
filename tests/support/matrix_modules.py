"""How the texts of `matrix_ways` are loaded, and what they use."""

import asyncio
import importlib
import itertools
import json
import linecache
import os
import runpy
import sys
import types
import warnings
from dataclasses import dataclass
from threading import Lock

from exp_pool import bypass

_RUNS = []
_numbers = itertools.count()


def ran():
    """A function has run: not in a list of its own module, which could be part of what it is."""
    _RUNS.append(None)


def where(names):
    """Where the module of a function is, by its globals."""
    return [names.get(name) for name in ("__name__", "__file__", "__vsc_ipynb_file__")]


def drained(chunks):
    async def all_of_them():
        return [chunk async for chunk in chunks]

    return asyncio.run(all_of_them())


@dataclass
class Data:
    model: str


class Client:
    """Has no identity of its own."""

    def __init__(self, model):
        self.model, self.lock = model, Lock()


class Asked:
    """What a variant answered, what it says without the pool, and what the pool did."""

    def __init__(self, manager, names, call):
        with bypass():
            self.true = eval(call, names)
        before, at = manager.stats(), len(_RUNS)
        self.answer = eval(call, names)
        self.runs, after = len(_RUNS) - at, manager.stats()
        self.hits, self.uncached = after.hits - before.hits, after.uncached - before.uncached


def report(names, calls):
    """Ask all of these calls in a program of its own, and print what came of each, by slot."""
    import exp_pool

    manager = exp_pool.ExpManager(index="none://", embedder="none")
    exp_pool.set_exp_manager(manager)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asked = {slot: vars(Asked(manager, names, call)) for slot, call in calls.items()}
    manager.sync.close()
    sys.stdout.write(json.dumps({"asked": asked, "said": [str(w.message) for w in said]}))


class Loading:
    """Loads the variants of one cell.

    Args:
        folder: an empty one, which is on the path.
        how: by which of the methods below.
        slot: the slot that differs: ``module`` and ``file`` are told by where a text stands.
    """

    def __init__(self, folder, how, slot):
        self._folder, self._slot = folder, slot
        self._load = getattr(self, f"_{how}")
        self._name = f"way_{next(_numbers)}"  # a name has one place in a process
        self._names = {}  # of the kernel

    def __call__(self, text, value):
        """The names that the text has defined."""
        return self._load(text, value)

    def forget(self):
        for name in [name for name in sys.modules if name.partition(".")[0].startswith(self._name)]:
            del sys.modules[name]

    def _module_name(self, value):
        return f"{self._name}_{value}" if self._slot == "module" else self._name

    def _write(self, path, text):
        """A file that is seen to have changed, however soon it is written again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        at = 1_700_000_000 + next(_numbers)
        os.utime(path, (at, at))
        importlib.invalidate_caches()
        return path

    def _module(self, text, value):
        name = self._module_name(value)
        self._write(self._folder / f"{name}.py", text)
        sys.modules.pop(name, None)
        return vars(importlib.import_module(name))

    def _reload(self, text, value):
        name = self._module_name(value)
        self._write(self._folder / f"{name}.py", text)
        module = sys.modules.get(name)
        return vars(importlib.import_module(name) if module is None else importlib.reload(module))

    def _project(self, text, value):
        prompts = f"{self._name}_prompts"
        self._write(self._folder / f"{prompts}.py", f"PROMPT = {value if self._slot == 'imported' else 'same'!r}\n")
        sys.modules.pop(prompts, None)
        return self._module(f"from {prompts} import PROMPT\nimport {prompts} as prompts\n{text}", value)

    def _installed(self, text, value):
        """A package where installers put it; that it is on the path is all that an environment adds."""
        package = self._module_name(value)
        place = self._folder / "site-packages"
        self._write(place / package / "__init__.py", "")
        self._write(place / f"{package}-1.0.dist-info" / "METADATA", f"Name: {package}\nVersion: 1.0\n")
        self._write(place / package / "app.py", text)
        for name in (package, f"{package}.app"):
            sys.modules.pop(name, None)
        sys.path.insert(0, str(place))
        try:
            return vars(importlib.import_module(f"{package}.app"))
        finally:
            sys.path.remove(str(place))

    def _cell(self, text, value):
        """Run in the names of one kernel, as ipykernel does: each time from a file that is there for readers only."""
        return self._run_cell(text, self._names)

    def _notebook(self, text, value):
        book = self._folder / self._name / (value if self._slot == "file" else "same") / "book.ipynb"
        return self._run_cell(text, {"__vsc_ipynb_file__": str(book)})

    def _run_cell(self, text, names):
        file = f"{self._folder}/ipykernel_{self._name}/{next(_numbers)}.py"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        names["__name__"] = "__main__"
        exec(compile(text, file, "exec"), names)
        return names

    def _script(self, text, value):
        """Two scripts of one name, each in a folder of its own."""
        folder = self._folder / self._name / (value if self._slot == "file" else "same")
        file = self._write(folder / "main.py", text)
        return runpy.run_path(str(file), run_name="__main__")

    def _exec(self, text, value):
        """Code that stands nowhere, in a module that was made for it."""
        name = self._module_name(value)
        module = sys.modules[name] = types.ModuleType(name)
        exec(text, vars(module))
        return vars(module)
