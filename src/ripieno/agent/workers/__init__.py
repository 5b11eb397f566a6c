"""Workers: starting and watching their processes, asking for their health, and the two lanes that send attempts."""
