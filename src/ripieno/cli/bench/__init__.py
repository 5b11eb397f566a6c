"""The parts of `ripieno bench`: the load, the tasks, the report and the plot."""
