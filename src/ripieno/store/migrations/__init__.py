"""The schema, as numbered steps of SQL that `store.database.migrate` applies."""
