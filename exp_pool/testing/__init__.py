"""For those who test what they build on the pool: the pytest plugin."""
