"""A code request as text, inspected by a list of what is allowed and never executed; the statuses it can have."""
