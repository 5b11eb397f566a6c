"""The protocol as this suite reads it: transcribed from its tables, compiled without the product.

Nothing here comes from the product's own ``.proto`` files, so a wrong number on either
side shows. The modules register in protobuf's default pool under ``protocol/stubs/``;
``python -m protocol.generate_stubs`` in ``tests/`` writes them.
"""
