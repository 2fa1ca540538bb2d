"""What the proof knows of each mechanism, a module for each. How to add one: `tests.proof.registry`."""
