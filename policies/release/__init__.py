"""What is planned and what leaves: plans, tensors on the wire, and signed certificates."""
