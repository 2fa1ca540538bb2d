"""What both sides and an auditor must agree on: no PySyft, no web, no disk. `graph.exporter` alone imports torch."""
