"""``onnx/NAME``: a sentence-transformers model on ONNX Runtime, which takes a fifth of the time for a short text.

The model is exported once (`_onnx_export`, in a process of its own) to a folder in the user's cache:
``$EXP_POOL_ONNX_CACHE``, else ``$XDG_CACHE_HOME/exp_pool/onnx``, else ``~/.cache/exp_pool/onnx``. From then on neither
torch nor sentence-transformers is loaded. It lies there as::

    NAME-DIGEST-int8-1/model.onnx        the whole model, pooling and normalization included
    NAME-DIGEST-int8-1/tokenizer.json
    NAME-DIGEST-int8-1/about.json        precision, agreement with the original, digests of the files

DIGEST is of the original's files, and the last number that of the way of exporting: a folder never changes, and what is
damaged is exported anew.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from exp_pool.errors import EmbedderError
from exp_pool.runtime.files import create_folder, sync_folder
from exp_pool.runtime.plugs import to_install
from exp_pool.search.embedders._sentence_models import (
    LoadedModels,
    SentenceEmbedder,
    Tokens,
    find,
    full_name,
    short_name,
    start_of,
)

_EXPORT_VERSION = 1  # another one whenever the same model would be exported to other vectors
_EXPORT_S = 1800.0  # the small model takes half a minute
_PRECISIONS = ("int8", "fp32")
_BATCH = 32
_THREADS = 4  # more do not make a short text faster
# What the vectors depend on. A copy of a model may have other files, too, or its weights twice.
_PARTS = ("modules.json", "config.json", "sentence_bert_config.json", "tokenizer*.json", "vocab.*", "*.model")
_WEIGHTS = ("*.safetensors", "*.bin")

_models: LoadedModels[Path, ExportedModel] = LoadedModels()


class OnnxEmbedder(SentenceEmbedder):
    """A sentence-transformers model on ONNX Runtime, on the CPU.

    Args:
        name: as the hub knows it (without an owner it is one of ``sentence-transformers``), or a folder. ``/int8`` or
            ``/fp32`` behind it chooses the precision, as machines with different processors must that share a pool.
            By default int8 where the processor has instructions for it, and fp32 where int8 does not agree with the
            original: cosine >= 0.98 for each of 100 texts, and 95 % of their five nearest the same.

    Raises:
        EmbedderError: the model cannot be had, exported or kept; the message says what to do.
    """

    def __init__(self, name: str) -> None:
        head, _, tail = name.rpartition("/")
        _libraries()  # before a model is exported that could not be run
        name, wanted = (head, tail) if head and tail in _PRECISIONS else (name, _best_precision())
        source = _source(full_name(name))
        revision = _digest(source)
        slug = re.sub(r"[^\w.-]+", "_", short_name(name))[-80:].strip("_.")
        self._folder = _cache() / f"{slug}-{revision}-{wanted}-{_EXPORT_VERSION}"
        model = _models.get(self._folder, lambda: _open_or_export(source, self._folder, wanted))
        self.identity = f"onnx/{short_name(name)}@{revision}/{model.precision}"

    @property
    def _model(self) -> ExportedModel:
        return _models.get(self._folder, lambda: _opened(self._folder))  # read again in a forked child

    @property
    def _limit(self) -> int | None:
        return self._model.limit

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return self._model.tokens(texts)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self._model.embed(texts)


class ExportedModel:
    """A model that `_onnx_export` has exported.

    Args:
        about: ``precision``, and ``limit``: how many tokens it reads.
        content: of ``model.onnx`` and ``tokenizer.json``.

    Raises:
        EmbedderError: a library is missing; the message says what to install.
    """

    def __init__(self, about: Mapping[str, Any], content: Mapping[str, bytes]) -> None:
        onnxruntime, tokenizer = _libraries()
        self.precision: str = about["precision"]
        self.limit: int | None = about["limit"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(_THREADS, _processors())
        options.log_severity_level = 3  # errors; what it warns of is how the graph was written
        self._session = onnxruntime.InferenceSession(content["model.onnx"], options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._tokenizer = tokenizer.from_buffer(content["tokenizer.json"])
        self._unknown = self._tokenizer.token_to_id(getattr(self._tokenizer.model, "unk_token", None) or "<unk>")

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, d) float32. Texts of the same number of tokens go together: padding is work, too, and changes digits."""
        # One by one: the tokenizer's batches are no faster, and its threads do not survive a fork.
        encodings = [self._tokenizer.encode(start_of(text)) for text in texts]
        order = sorted(range(len(texts)), key=lambda at: len(encodings[at]))
        vectors: list[Any] = [None] * len(texts)
        for _, same in itertools.groupby(order, key=lambda at: len(encodings[at])):
            while places := list(itertools.islice(same, _BATCH)):
                for at, vector in zip(places, self._run([encodings[at] for at in places]), strict=True):
                    vectors[at] = vector
        return np.stack(vectors)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, those included that the model does not get to read."""
        return [self._all_tokens(text) for text in texts]

    def _all_tokens(self, text: str) -> Tokens:
        read = self._tokenizer.encode(text)
        parts = [read, *read.overflowing]
        unknown = [
            text[start:end]
            for part in parts
            for id_, (start, end) in zip(part.ids, part.offsets, strict=True)
            if id_ == self._unknown
        ]
        return Tokens(sum(len(part) for part in parts), unknown)

    def _run(self, encodings: list[Any]) -> np.ndarray:
        columns = {
            "input_ids": [each.ids for each in encodings],
            "attention_mask": [each.attention_mask for each in encodings],
            "token_type_ids": [each.type_ids for each in encodings],
        }
        vectors: np.ndarray = self._session.run(
            None, {name: np.asarray(columns[name], dtype=np.int64) for name in self._inputs}
        )[0]
        return vectors


def _libraries() -> tuple[Any, Any]:
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as err:
        raise EmbedderError(
            f"embedder='onnx/...' needs ONNX Runtime and tokenizers: {to_install('onnx')} ({err})"
        ) from err
    return onnxruntime, Tokenizer


def _source(name: str) -> Path:
    """The folder of the original model."""
    source = find(name)
    if not Path(source).is_dir():
        from exp_pool.search.embedders.sentence_transformers import load

        load(name)  # fetches it, or says why not
        source = find(name)
    if not Path(source).is_dir():
        raise EmbedderError(f"{name!r} has no modules.json, so it is no sentence-transformers model; use another one")
    return Path(source)


def _digest(source: Path) -> str:
    """A digest of the weights and of what else the vectors depend on."""
    folders = [source]
    if (source / "modules.json").exists():
        modules = json.loads((source / "modules.json").read_bytes())
        folders += [source / module["path"] for module in modules if module["path"]]
    digest = hashlib.sha256()
    for folder in folders:
        weights = next((found for pattern in _WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
        for path in [*sorted({path for pattern in _PARTS for path in folder.glob(pattern)}), *weights]:
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(source)}\0".encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _best_precision() -> str:
    """The precision by the processor's flags, not by the clock: a busy machine would measure another one each time."""
    if platform.machine() not in {"x86_64", "aarch64"} or not Path("/proc/cpuinfo").exists():
        return "fp32"  # not measured elsewhere
    flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    return "int8" if flags & {"avx512_vnni", "avx_vnni", "asimddp"} else "fp32"


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cache() -> Path:
    own = os.environ.get("EXP_POOL_ONNX_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exp_pool" / "onnx"


def _open_or_export(source: Path, folder: Path, precision: str) -> ExportedModel:
    try:
        return _opened(folder)
    except FileNotFoundError:
        logger.info("{} is exported to ONNX, once", source)
    except (OSError, ValueError) as err:
        logger.warning("{} is exported anew: {}", folder, err)
    try:
        from filelock import FileLock

        create_folder(folder.parent)
        with FileLock(folder.with_name(f"{folder.name}.lock"), mode=0o600):
            try:
                return _opened(folder)  # another process was faster
            except (OSError, ValueError):
                return _export(source, folder, precision)
    except ImportError as err:
        raise EmbedderError(f"exporting a model needs filelock: {to_install('onnx')} ({err})") from err
    except OSError as err:
        raise EmbedderError(
            f"{folder.parent} cannot be written to, so the exported model cannot be kept ({err}); "
            "set EXP_POOL_ONNX_CACHE to a folder of yours"
        ) from err


def _export(source: Path, folder: Path, precision: str) -> ExportedModel:
    """Export beside, then put in place. The caller holds the lock."""
    for left in folder.parent.glob(f"{folder.name}.new-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.new-", dir=folder.parent))
    try:
        _run_export(source, new, precision)
        model = _opened(new)
        if folder.exists():
            shutil.rmtree(folder)  # whoever has it open has it in memory
        new.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return model


def _run_export(source: Path, new: Path, precision: str) -> None:
    """Run the export in a process of its own, with the import path of this one.

    torch takes a gigabyte, and the libraries set up logging and warnings as they like.
    """
    command = [sys.executable, "-P", "-m", "exp_pool.search.embedders._onnx_export", str(source), str(new), precision]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, check=False, timeout=_EXPORT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.SubprocessError as err:
        raise EmbedderError(f"{source} was not exported to ONNX within {_EXPORT_S:g} s") from err
    if (new / "refused.txt").exists():
        raise EmbedderError((new / "refused.txt").read_text(encoding="utf-8"))
    if not (new / "about.json").exists():
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise EmbedderError(
            f"{source} cannot be exported to ONNX ({last}); use embedder='sentence-transformers/...' for this model"
        )


def _opened(folder: Path) -> ExportedModel:
    """The model that lies in this folder, checked against its digests.

    Raises:
        ValueError: something is damaged.
        OSError: something is not there.
    """
    about = json.loads((folder / "about.json").read_bytes())
    if not isinstance(about, dict) or about.pop("digest", None) != digest_of(about):
        raise ValueError("about.json is damaged")
    content = {name: (folder / name).read_bytes() for name in about["files"]}
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != about["files"][name]:
            raise ValueError(f"{name} is damaged")
    return ExportedModel(about, content)


def digest_of(about: Mapping[str, Any]) -> str:
    """The digest of ``about.json`` that it must hold itself."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
