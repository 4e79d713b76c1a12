"""A shop with a warehouse: the application that the demo tests."""
