"""A book of options priced by Monte Carlo on a cluster: see README.md.

Read in this order: ``book`` (what is held, and the market), ``closed_form`` and
``pricing`` (the mathematics), ``scenarios`` (from positions to a distribution),
``steps`` (the tasks), ``worker`` (what runs on the cluster), ``job`` (the client's side),
``check`` and ``report`` (what comes of it), ``cluster`` and ``demo`` (what starts it all).
"""
