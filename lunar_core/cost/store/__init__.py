"""A ledger that lasts: SQLite and PostgreSQL through SQLAlchemy Core. Loaded by ``Ledger.open`` alone."""
