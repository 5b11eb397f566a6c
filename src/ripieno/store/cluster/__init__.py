"""Agents, replicas, news between replicas, and objects in the object store."""
