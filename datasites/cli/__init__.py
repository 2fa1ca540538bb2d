"""The command line `datasite`: options in, an action by name, and its answer as tables."""
