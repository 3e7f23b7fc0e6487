"""Identity of calls: names, arguments, closures, canonical encoding, keys, source digests.

In: a function and the arguments of a call. Out: named arguments, the text for similarity, keys, a digest of the source.
May import values, runtime and errors.
"""
