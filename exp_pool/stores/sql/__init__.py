"""Stores that speak SQL: SQLite in a file, PostgreSQL and MySQL on a server. `store` has every method once."""
