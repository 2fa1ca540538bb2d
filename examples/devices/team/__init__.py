"""Ask a team's devices through Flower."""
