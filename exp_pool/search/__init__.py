"""From a text to similar experiences: by meaning, by words, or both.

In: a text and the scope to look in. Out: rows with their similarity.
May import reuse, stores, core and runtime.
"""
