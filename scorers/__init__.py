"""Scorers: each rates an experience, 0 to 1. Loaded by name through the entry-point group ``exp_pool.scorers``."""
