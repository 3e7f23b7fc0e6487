"""MariaDB passes the contract of record stores, on a real server."""

from __future__ import annotations

import uuid

import pymysql
import pytest

from exp_pool.stores.mysql import MysqlStore
from exp_pool.testing import RecordStoreContract


class TestMysql(RecordStoreContract):
    @pytest.fixture
    def store(self):
        name = f"exp_pool_test_{uuid.uuid4().hex[:12]}"
        admin = pymysql.connect(host="127.0.0.1", user="root", autocommit=True)
        admin.cursor().execute(f"CREATE DATABASE {name}")
        store = MysqlStore(f"mysql://root@127.0.0.1:3306/{name}")
        yield store
        store.close()
        admin.cursor().execute(f"DROP DATABASE {name}")
        admin.close()
