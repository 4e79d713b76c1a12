"""Where processes of the farm come from."""
