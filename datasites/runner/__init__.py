"""The name that `datasites.jobs` had in 0.1.0, for unit files of operators who start a parent themselves."""
