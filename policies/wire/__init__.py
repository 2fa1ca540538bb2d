"""What both sides read of each other's bytes before anything is built from them: messages and envelopes of PySyft."""
