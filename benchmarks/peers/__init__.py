"""The peers, each used as its documentation recommends for many small tasks.

``environment`` makes a virtual environment of their own and runs in it, one after the other, the
modules named in ``PEERS``. Those import nothing of ours but ``order``, and each says in its ``how``
what is kept and what is not.
"""
