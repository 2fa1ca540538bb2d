"""Confined processes, forked for one job each: exporter (a researcher's Python), runner (our code, private rows)."""
