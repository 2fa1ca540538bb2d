"""The HTTP entrance of a datasite: PySyft's API behind our guard, `/healthz`, and the lock-out."""
