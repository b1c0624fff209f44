"""Stored ledgers: SQLite and PostgreSQL through SQLAlchemy Core. Only ``Ledger.open`` imports this."""
