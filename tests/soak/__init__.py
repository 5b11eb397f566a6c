"""A day of a cluster, squeezed into minutes: mixed load while one thing after the other says no.

::

    __main__ -- run ------ which fault when, and what is measured around it
                 |-- stage --- the cluster: `ripieno up`, a second replica and a second agent
                 |-- load ---- jobs at a steady rate, each checked by what it has to end as (jobs)
                 |-- faults -- what says no: the database, a process, a caller
                 '-- watch --- memory of each process, and what is logged

Run it with ``make soak``. Rules that the verdict goes by:

* SOAK-1  Every task ends as its job says that it must, whatever happened meanwhile.
* SOAK-2  A stop of 15 s, of any process, costs no attempt of an agent that is there afterwards.
* SOAK-3  One caller that asks for too much at most doubles the others' p99, plus 100 ms.
* SOAK-4  After any fault a lone task gets through within 15 s.
* SOAK-5  No process grows: 64 MiB from the first quiet minute to the last, 100 MiB in between.
* SOAK-6  No line is logged twice within a second by the same process.
"""
