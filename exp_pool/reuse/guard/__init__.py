"""The guard before every judge that answers by similarity: it vetoes pairs that differ in a "not", a number or a name.

Embeddings hardly see a negation, a number or the direction of "from A to B". The guard looks for just these: it compares
two texts word by word, without a model, and says what they differ in. English and Chinese; negation in ten
other languages, too.
"""

from exp_pool.reuse.guard.comparison import Difference, DifferenceKind, differences, guard, objections
from exp_pool.reuse.guard.tokenizer import TokenizedText, tokenize

__all__ = ["Difference", "DifferenceKind", "TokenizedText", "differences", "guard", "objections", "tokenize"]
