"""Many studies: what is to be analysed and reviewed, one measured after the other, or one in a child process."""
