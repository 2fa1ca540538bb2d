"""Questions to people's own devices: what a device answers and keeps, and what a team makes of the answers."""
