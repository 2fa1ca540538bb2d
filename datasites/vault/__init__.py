"""Private tables: reading the owner's files, encoding them, mocks, and the only holder of private rows."""
