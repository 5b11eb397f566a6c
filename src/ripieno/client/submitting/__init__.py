"""Submissions: cut into calls, small and large."""
