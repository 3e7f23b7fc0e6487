"""Reuse: whether a stored experience may answer a call, and which ones the function is shown. Pure: no I/O, no clock.

In: a question and the experiences that were found. Out: a verdict, or the experiences to show.
May import core and runtime.
"""
