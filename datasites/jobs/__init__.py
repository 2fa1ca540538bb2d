"""Processes forked for one job each: exporter (researcher code, mock rows), runner (our code, private rows)."""
