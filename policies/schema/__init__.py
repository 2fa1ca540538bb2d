"""The public half of a table: columns with bounds, schemas, and the noise that a statistic on them carries."""
