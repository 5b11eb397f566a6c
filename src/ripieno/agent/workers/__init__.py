"""The worker processes: started, watched, asked for their health, and served attempts over the two lanes."""
