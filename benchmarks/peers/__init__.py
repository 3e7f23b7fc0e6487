"""What `correctness_vs_peers.py` is made of: the cases, and how each library is asked."""
