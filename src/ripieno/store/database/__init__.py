"""The database: connections, transactions, faults, locks, migrations, statements from files."""
