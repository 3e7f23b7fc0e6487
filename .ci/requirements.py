"""What ``pip install exp_pool[EXTRAS]`` would install, one requirement a line, but what ``--without`` names.

``python .ci/requirements.py --without sentence-transformers test``: pip itself cannot leave a dependency out.
"""

import argparse
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def resolved(requirements: list[str]) -> Iterator[str]:
    for requirement in requirements:
        own = re.fullmatch(r"exp_pool\[(.*)\]", requirement)
        if own is None:
            yield requirement
            continue
        for extra in own[1].split(","):
            yield from resolved(PROJECT["optional-dependencies"][extra.strip()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    parser.add_argument("extras", nargs="*")
    options = parser.parse_args()
    wanted = [*PROJECT["dependencies"], *(f"exp_pool[{extra}]" for extra in options.extras)]
    for requirement in dict.fromkeys(resolved(wanted)):
        if re.split(r"[^\w.-]", requirement)[0] not in options.without:
            print(requirement)


if __name__ == "__main__":
    main()
