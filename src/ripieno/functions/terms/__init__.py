"""What both ends of a function task agree on: envelopes, pickles, references, options and errors."""
