"""What is done with a run that goes on or is over: look up, list, compare, plot, call. Opens nothing for writing."""
