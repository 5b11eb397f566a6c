"""What workers run for ``ripieno map``: a shell command, or a function that is imported by its name.

Payloads name the functions of this package by reference (plain pickle, a few dozen bytes), so the functions worker of
`ripieno up` runs them without any code being sent.
"""
