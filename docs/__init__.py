"""The documents, and in `generator` what writes the parts of them that can be read from the code."""
