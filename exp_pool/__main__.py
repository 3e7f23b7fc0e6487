"""``python -m exp_pool``: looking after a pool from the command line."""

from exp_pool.cli import main

if __name__ == "__main__":
    main()
