"""A response as JSON text, and back as today's return type writes it.

In: what a function returned, and its annotation. Out: text that comes back as it was, or an error that says why not.
May import values, contracts, runtime and errors.
"""
