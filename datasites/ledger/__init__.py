"""The privacy ledger: one SQLite file, append-only and hash-chained, in which every charge is written."""
