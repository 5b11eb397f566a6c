"""What is measured: one module a subject, each with ``measure(scale)``, which returns its figures."""
