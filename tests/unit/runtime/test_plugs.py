"""Hints to install name packages that an index knows."""


def test_hints_to_install_name_packages_that_an_index_knows():
    from exp_pool.runtime.plugs import to_install

    assert to_install("mysql").startswith("pip install 'pymysql[rsa]")
    assert "matplotlib" in to_install("plots")
    assert "pandas" in to_install("plots")  # of the extra that it includes
    assert "exp_pool" not in to_install("polars")
