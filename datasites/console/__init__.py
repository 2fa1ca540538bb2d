"""The owner's console: the pages on which a hospital reads requests, decides on them and proves what left."""
