"""A backend for joblib, and so for scikit-learn: importing this module registers the backend "ripieno".

::

    import joblib
    import ripieno.joblib

    with ripieno.connect() as cluster, joblib.parallel_config(backend="ripieno"):
        GridSearchCV(model, grid, n_jobs=-1).fit(X, y)

The backend takes ``cluster=`` or ``address=`` as further arguments of ``parallel_config``.
"""

try:
    import joblib
except ImportError as error:
    raise ImportError("ripieno.joblib needs the package joblib: pip install 'ripieno[joblib]'") from error

from ripieno.functions.adapters.joblib_backend import RipienoBackend, backend

__all__ = ["RipienoBackend"]

joblib.register_parallel_backend("ripieno", backend)
