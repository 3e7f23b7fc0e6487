"""Export of a sentence-transformers model to ONNX, and its comparison with the original, in a process of its own.

``python -m exp_pool.search.embedders._onnx_export SOURCE FOLDER int8|fp32`` fills the folder as `onnx` describes. Where
no precision will do, it writes only ``refused.txt``, which says why.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from exp_pool.errors import EmbedderError
from exp_pool.runtime.files import replace_file
from exp_pool.runtime.plugs import to_install
from exp_pool.search.embedders.onnx import ExportedModel, digest_of

_COSINE, _OVERLAP, _NEAREST = 0.98, 0.95, 5
# Weights in blocks with a scale each, activations too. With one scale a tensor, as quantize_dynamic does it, a vector
# depends on what else is in the batch, and of the five nearest of 1,000 questions only 81 % (91 % by channel) are the
# same; in blocks of 128 it is 96.8 %, of 32 it is 97.9 %, at the same speed.
_BITS, _BLOCK, _INT8_ACTIVATIONS = 8, 32, 4


def export(source: Path, folder: Path, precision: str) -> None:
    """Export a model, in the wanted precision or, if that does not agree with the original, in fp32.

    Args:
        source: the folder of the original.
        folder: to be filled.
        precision: ``int8`` or ``fp32``.

    Raises:
        EmbedderError: a library is missing, or the exported model does not agree with the original.
    """
    try:
        import onnx  # noqa: F401  (before anything takes long)
        import onnxscript  # noqa: F401
    except ImportError as err:
        raise EmbedderError(f"exporting a model to ONNX needs more: {to_install('onnx')} ({err})") from err
    from exp_pool.search.embedders.sentence_transformers import load

    model = load(str(source))
    texts = agreement_texts()
    expected = np.asarray(model.encode(texts, show_progress_bar=False))
    whole = _traced(model)
    measured: list[dict[str, Any]] = []
    for each in dict.fromkeys((precision, "fp32")):
        about = {"precision": each, "limit": model.max_seq_length, "agreement": measured}
        exported = _in_blocks(whole) if each == "int8" else whole
        content = {"model.onnx": exported.SerializeToString(), "tokenizer.json": _tokenizer(model)}
        measured.append({"precision": each, **agreement(expected, ExportedModel(about, content).embed(texts))})
        if measured[-1]["cosine_min"] >= _COSINE and measured[-1]["overlap"] >= _OVERLAP:
            _write(folder, about, content)
            return
    raise EmbedderError(
        f"{source} exported to ONNX does not agree with the original ({measured[-1]}; needed are a cosine of {_COSINE} "
        f"and an overlap of {_OVERLAP}); use embedder='sentence-transformers/...' for this model"
    )


def agreement_texts() -> list[str]:
    """The 100 texts by which an exported model is judged: everyday and technical ones, in several languages."""
    return files("exp_pool.search.embedders").joinpath("agreement_texts.txt").read_text(encoding="utf-8").splitlines()


def agreement(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Cosines between vectors of the same texts, and the share of each text's nearest others that are the same."""
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = np.sum(expected * found, axis=1)
    same = [len(set(a) & set(b)) for a, b in zip(_nearest(expected), _nearest(found), strict=True)]
    return {
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "overlap": sum(same) / (_NEAREST * len(same)),
    }


def _nearest(vectors: np.ndarray) -> list[list[int]]:
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    found: list[list[int]] = np.argsort(-similarities, axis=1)[:, :_NEAREST].tolist()
    return found


def _traced(model: Any) -> Any:
    """The ONNX model of all modules, for any number of texts and tokens."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> Any:
            return self.model(dict(zip(names, tensors, strict=True)))["sentence_embedding"]

    features = model.tokenizer(["a text of some words", "another one"], padding=True, return_tensors="pt")
    names = list(features)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        Whole().eval(),
        tuple(features[name] for name in names),
        input_names=names,
        output_names=["sentence_embedding"],
        dynamic_shapes=(tuple({0: dynamic, 1: dynamic} for _ in names),),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _in_blocks(whole: Any) -> Any:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(whole)
    quantizer = MatMulNBitsQuantizer(
        copy, bits=_BITS, block_size=_BLOCK, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS
    )
    quantizer.process()
    return quantizer.model.model


def _tokenizer(model: Any) -> bytes:
    tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.no_padding()
    if model.max_seq_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(model.max_seq_length)
    return bytes(tokenizer.to_str().encode())


def _write(folder: Path, about: dict[str, Any], content: dict[str, bytes]) -> None:
    for name, data in content.items():
        replace_file(folder / name, data)
    about |= {
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        "made_by": {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxruntime")},
    }
    replace_file(folder / "about.json", json.dumps(about | {"digest": digest_of(about)}, indent=1).encode())


if __name__ == "__main__":
    try:
        export(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    except EmbedderError as refusal:
        replace_file(Path(sys.argv[2]) / "refused.txt", str(refusal).encode())
