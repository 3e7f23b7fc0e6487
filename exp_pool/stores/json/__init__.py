"""``json:///folder``: one file for each experience, edited by hand and kept in git. `store` tells how."""
