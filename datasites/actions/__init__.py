"""What an owner can do, by name: the same functions for command line, control socket and console."""
