"""Values as JSON and back, compared, split and joined: what comes out is what went in.

In: any value. Out: plain data, or an `EncodingError`.
May import runtime and errors.
"""
