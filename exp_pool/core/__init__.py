"""What experiences, rows and values are, and what plugs must offer. Pure.

In: the values of users' calls. Out: experiences, rows, keys, JSON text.
May import runtime and errors.
"""
