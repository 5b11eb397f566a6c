"""The terms of a handler's author: errors that a handler raises or meets."""
