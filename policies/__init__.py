"""What both sides must agree on: budgets, mechanisms, accounting, the ledger, inspection, graphs, certificates.

No syft and no web here; torch in `exporter.py` alone.
"""
