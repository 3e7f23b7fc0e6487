"""May a stored experience answer a call, and what does the function get to see? Pure: no I/O, no threads, no clock."""
