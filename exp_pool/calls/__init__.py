"""One call, from its arguments to the stored answer. READ `flow` FIRST.

In: a bound call (`request`). Out: the answer, and a row that was stored. `drivers` perform what `flow` asks for.
May import search, stores, reuse, core and runtime.
"""
