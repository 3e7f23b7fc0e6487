"""What a plug must offer: stores, indexes, embedders, judges, scorers, codecs. `exp_pool.protocols` names all of it.

In: nothing. Out: protocols, and the rows and words that they speak of.
May import anything in core except codecs.
"""
