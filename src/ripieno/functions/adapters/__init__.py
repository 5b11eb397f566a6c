"""Clusters in the shapes that other libraries know: an executor, a backend of joblib, a scheduler of Dask."""
