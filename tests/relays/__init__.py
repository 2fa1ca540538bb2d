"""A coordinator and a dial-out for tests, and relays between them that do what none should."""
