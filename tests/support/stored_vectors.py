"""The questions of the clone with the real model's vectors, made beforehand: nothing is loaded.

The vectors are those of all-MiniLM-L6-v2, as whole numbers (cosine to the originals at least 0.9999), in the order of
`TEXTS`. Where texts were changed, ``python tests/support/stored_vectors.py`` makes them again (a minute).
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from questions import generated_texts, labelled_pairs

STORED = Path(__file__).parents[1] / "data" / "question_vectors.npz"
TEXTS = list(dict.fromkeys([*generated_texts(), *(text for a, b, _ in labelled_pairs() for text in (a, b))]))


def digest():
    return hashlib.sha256("\0".join(TEXTS).encode()).hexdigest()


class Stored:
    identity = "all-MiniLM-L6-v2, stored"

    def __init__(self):
        with np.load(STORED) as stored:
            assert str(stored["texts"]) == digest(), f"other texts than in {STORED.name}: python {__file__}"
            self.vectors = dict(zip(TEXTS, stored["vectors"].astype(np.float32), strict=True))

    def embed(self, texts):
        return np.array([self.vectors[text] for text in texts])

    def fits(self, texts):
        return [True] * len(texts)

    def cosine(self, one, other):
        one, other = self.vectors[one], self.vectors[other]
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def make():
    from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

    model = SentenceTransformerEmbedder("all-MiniLM-L6-v2")
    vectors = np.concatenate([model.embed(TEXTS[at : at + 256]) for at in range(0, len(TEXTS), 256)])
    whole = np.round(vectors * 127 / np.abs(vectors).max(axis=1, keepdims=True)).astype(np.int8)
    np.savez_compressed(STORED, vectors=whole, texts=digest())


if __name__ == "__main__":
    make()
