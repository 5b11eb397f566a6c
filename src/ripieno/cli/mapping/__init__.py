"""``ripieno map``: one task for each input, results in the order of the inputs, resumable.

::

    inputs ── Job: payload, id ── Run: submits ahead, follows ── Sink: writes in order
    (lines, bounded)                 (bounded window)              (file, standard output)

Rules that hold throughout:

* MAP-1  A task's id says what it does to which input at which place. What is submitted again creates nothing
  twice, and no result of another input is ever taken for its own.
* MAP-2  Memory is bounded: by the window of tasks between the first that is not written and the last that is
  submitted, and by the bytes of results that wait for their turn. What waits beyond that is asked for again.
* MAP-3  Standard output and the output file have results whole and in order. A file of that name has the results of
  all inputs: until then they are in ``NAME.partial``, which the next run continues.
"""
