"""What performs the steps of the story (`exp_pool.flow`) for each kind of function."""
