"""May a stored experience answer a call, and what does the function get to see? Pure: no I/O, no threads, no clock.

In: a question and the experiences that were found. Out: a verdict, or the experiences to show.
May import core and runtime.
"""
