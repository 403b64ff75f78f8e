"""The rows of the comparison's table, a module for each kind."""
