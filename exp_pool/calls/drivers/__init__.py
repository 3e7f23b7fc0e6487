"""What performs the steps of the story (`exp_pool.calls.flow`) for each kind of function."""
