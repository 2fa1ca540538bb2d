"""The demonstration network: three hospitals, their synthetic patients and schemas, and the study that joins them."""
