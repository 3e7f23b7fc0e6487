"""What makes two calls the same call: the function, its source, its closure, its arguments, the key of them all.

In: a function and the arguments of a call. Out: named arguments, the text for similarity, keys, a digest of the source.
May import values, runtime and errors.
"""
