"""Passwords in URLs are hidden."""

import pytest

from exp_pool.runtime.display import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("redis://:secret@host", "redis://:***@host"),
        ("mysql://me:s/e@c:r?e#t@host/db?ssl=1", "mysql://me:***@host/db?ssl=1"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("milvus://host?API_KEY=secret#x", "milvus://host?API_KEY=***#x"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////a:b/c@d.db", "sqlite:////a:b/c@d.db"),
        ("no url", "no url"),
    ],
)
def test_passwords_in_urls_are_hidden(url, shown):
    assert without_password(url) == shown
