"""`make gpu`: what a machine with a GPU is asked first, and the runs that it is given."""
